# 200: log in as a system administrator, once
curl -s -i {url}/admin/login {json} -d '{"code":"{administrator}"}' => session ADMIN
# 201: issue a key; its secret is shown this once
curl -s -i {url}/admin/keys {admin} {json} -d '{"name":"Settlement run"}' => id KEY_ID, secret KEY_VALUE
# 422: the form asks for a name, and for nothing else
curl -s -i {url}/admin/keys {admin} {json} -d '{"name":"x","expires_on":"2030-01-01"}'
# 200: the first payments
curl -s -i '{url}/payments?limit=3' {key}
# 201: make a payment
curl -s -i {url}/payments {key} {json} -d '{"account":"acc-000003","amount":125000,"currency":"EUR","reference":"Invoice 7"}' => id PAYMENT
# 200: replace it
curl -s -i {url}/payments/$PAYMENT {key} {json} -X PUT -d '{"account":"acc-000003","amount":99000,"currency":"EUR","reference":"Invoice 7"}'
# 200: change its reference
curl -s -i {url}/payments/$PAYMENT {key} {json} -X PATCH -d '{"reference":"Invoice 7b"}'
# 422: an amount of zero
curl -s -i {url}/payments/$PAYMENT {key} {json} -X PATCH -d '{"amount":0}'
# 200: read the payment
curl -s -i {url}/payments/$PAYMENT {key}
# 204: delete the payment
curl -s -i {url}/payments/$PAYMENT {key} -X DELETE
# 404: which is gone
curl -s -i {url}/payments/$PAYMENT {key}
# 401: no key
curl -s -i {url}/payments
# 401: the id alone, which is half a key
curl -s -i {url}/payments -H "X-AuthenticationKeyId: $KEY_ID"
# 401: the secret alone, which is the other half
curl -s -i {url}/payments -H "X-AuthenticationKeyValue: $KEY_VALUE"
# 401: a wrong secret
curl -s -i {url}/payments -H "X-AuthenticationKeyId: $KEY_ID" -H "X-AuthenticationKeyValue: ${KEY_VALUE%???}---"
# 200: the list before, with one active key
curl -s -i {url}/admin/keys {admin}
# 201: give the key a successor; both work until the old one is revoked
curl -s -i {url}/admin/keys/$KEY_ID/rotate {admin} {json} -d '{"overlap_until":null}' => id NEXT_ID, secret NEXT_VALUE
# 200: revoke the old one
curl -s -i {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 401: it is refused from now on
curl -s -i {url}/payments {key}
# 200: and its successor is not
curl -s -i '{url}/payments?limit=2' -H "X-AuthenticationKeyId: $NEXT_ID" -H "X-AuthenticationKeyValue: $NEXT_VALUE"
# 409: a key is revoked only once
curl -s -i {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 409: it gets no successor
curl -s -i {url}/admin/keys/$KEY_ID/rotate {admin} {json} -d '{"overlap_until":null}'
# 409: it cannot be resumed
curl -s -i {url}/admin/keys/$KEY_ID/resume {admin} -X POST
# 200: the list after, with the revoked key at the bottom
curl -s -i {url}/admin/keys {admin}
# 200: the events, each with its actor
curl -s -i {url}/admin/keys/events {admin}
# 200: log in as a support agent
curl -s -i {url}/admin/login {json} -d '{"code":"{agent}"}' => session AGENT
# 403: who may not even see the list
curl -s -i {url}/admin/keys -H "X-Session: $AGENT"
# 403: nor revoke a key
curl -s -i {url}/admin/keys/$NEXT_ID/revoke -H "X-Session: $AGENT" -X POST
