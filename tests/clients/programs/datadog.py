import os

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.v1.api.authentication_api import AuthenticationApi

settings = Configuration(host=os.environ["URL"])
settings.api_key["apiKeyAuth"] = os.environ["KEY"]
AuthenticationApi(ApiClient(settings)).validate()
