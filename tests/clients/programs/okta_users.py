import asyncio
import os

from okta.client import Client

asyncio.run(Client({"orgUrl": os.environ["HTTPS"], "token": os.environ["KEY"]}).list_users())
