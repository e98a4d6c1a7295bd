# 200: log in as Northwind's administrator, once
curl -s -i {url}/admin/login {json} -d '{"code":"{northwind}"}' => session ADMIN
# 201: issue a key for all clients; it is shown this once
curl -s -i {url}/admin/keys {admin} {json} -d '{"title":"Power BI dashboard","access":{"type":"full"}}' => api_key KEY, id KEY_ID
# 201: issue a key for one client
curl -s -i {url}/admin/keys {admin} {json} -d '{"title":"Nightly Snowflake ETL","access":{"type":"full"},"resources":{"type":"only","resources":["client:nw-003"]}}' => api_key ONE
# 200: counts of the whole partner
curl -s -i {url}/v1/rollups/counts -H "X-API-Key: $KEY"
# 200: who completed which training, at one client
curl -s -i {url}/v1/clients/nw-003/training/completion -H "X-API-Key: $ONE"
# 403: another client, with the key of that one
curl -s -i {url}/v1/clients/nw-004/training/completion -H "X-API-Key: $ONE"
# 401: no key
curl -s -i {url}/v1/rollups/counts
# 401: a key cut short
curl -s -i {url}/v1/rollups/counts -H "X-API-Key: ${KEY%???}"
# 200: the list, with the key that an integration owns
curl -s -i {url}/admin/keys {admin}
# 201: give the key a successor; both work until the old one is revoked
curl -s -i {url}/admin/keys/$KEY_ID/rotate {admin} {json} -d '{"overlap_until":null}' => api_key NEXT
# 200: revoke the old one
curl -s -i {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 401: it is refused from now on
curl -s -i {url}/v1/rollups/counts -H "X-API-Key: $KEY"
# 200: and its successor is not
curl -s -i {url}/v1/rollups/counts -H "X-API-Key: $NEXT"
# 409: a key is revoked only once
curl -s -i {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 200: the events, each with its actor
curl -s -i {url}/admin/keys/events {admin}
# 200: log in as the administrator of a client
curl -s -i {url}/admin/login {json} -d '{"code":"{client}"}' => session CLIENT
# 403: who may not even see the list
curl -s -i {url}/admin/keys -H "X-Session: $CLIENT"
# 200: log in as Contoso's administrator
curl -s -i {url}/admin/login {json} -d '{"code":"{contoso}"}' => session CONTOSO
# 200: who sees no key of Northwind's
curl -s -i {url}/admin/keys -H "X-Session: $CONTOSO"
