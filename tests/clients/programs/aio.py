import asyncio
import os

import aiohttp


async def main():
    async with aiohttp.ClientSession() as session:
        await session.get(os.environ["URL"] + "/v1", headers={"X-API-Key": os.environ["KEY"]})


asyncio.run(main())
