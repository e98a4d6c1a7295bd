# Generates a client for Python, and calls it with a key and a prefix.
cat > api.yaml <<'YAML'
openapi: 3.0.3
info: {title: v1, version: "1"}
paths:
  /v1:
    get:
      operationId: get
      security: [{key: []}]
      responses: {"204": {description: nothing}}
components:
  securitySchemes: {key: {type: apiKey, in: header, name: Authorization}}
YAML
openapi-generator-cli generate -q -g python -i api.yaml -o client
PYTHONPATH=client python3 - <<'PYTHON'
import os
import openapi_client as it

settings = it.Configuration(host=os.environ["URL"], api_key={"key": os.environ["KEY"]}, api_key_prefix={"key": "Token"})
it.DefaultApi(it.ApiClient(settings)).get()
PYTHON
