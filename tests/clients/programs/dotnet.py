"""GET URL with the key, with .NET's HttpClient. `DOTNET_ROOT` is a runtime; pythonnet starts it."""

import os
import sys

from pythonnet import load

load("coreclr", dotnet_root=os.environ["DOTNET_ROOT"], runtime_config=os.environ.get("RUNTIME_CONFIG"))
import clr  # noqa: E402

clr.AddReference("System.Net.Http")
from System.Net.Http import HttpClient  # noqa: E402
from System.Net.Http.Headers import AuthenticationHeaderValue  # noqa: E402

client = HttpClient()
if len(sys.argv) > 1:
    client.DefaultRequestHeaders.Authorization = AuthenticationHeaderValue(sys.argv[1], os.environ["KEY"])
else:
    client.DefaultRequestHeaders.Authorization = AuthenticationHeaderValue(os.environ["KEY"])
print(client.GetAsync(os.environ["URL"] + "/v1").Result)
