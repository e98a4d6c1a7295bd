# 200: log in as an administrator of Meridian, once
{curl} {url}/admin/login {json} -d '{"code":"{administrator}"}' => session ADMIN
# 200: the scopes to choose from
{curl} {url}/admin/keys/scopes {admin}
# 422: a key that says nothing about its access
{curl} {url}/admin/keys {admin} {json} -d '{"title":"Nightly sync"}'
# 201: a key with three scopes, for one project, that ends in 90 days; it is shown this once
{curl} {url}/admin/keys {admin} {json} -d '{"title":"Nightly sync","access":{"type":"scopes","scopes":["read:workspace","read:editions","write:editions"]},"resources":{"type":"only","resources":["project:p-1"]},"expires_on":"{day}"}' => api_key KEY, id KEY_ID
# 201: a key for the outputs of all projects
{curl} {url}/admin/keys {admin} {json} -d '{"title":"Archive","access":{"type":"scopes","scopes":["read:outputs"]}}' => api_key OUTPUTS
# 200: the projects, of which the key sees one
{curl} {url}/v1/projects {key}
# 200: editions, in pages
{curl} '{url}/v1/editions?limit=5' {key}
# 201: create an edition in the project
{curl} '{url}/v1/editions?project=p-1' {key} {json} -d '{"blueprint":"p-1-b1","title":"Next quarter"}'
# 200: submit a draft
{curl} {url}/v1/editions/p-1-b1-e012/submit {key} -X POST
# 200: download an output; its headers are shown
{curl} -D - -o /dev/null {url}/v1/outputs/p-1-b1-e001-o1/download {outputs}
# 401: no key
{curl} {url}/v1/editions
# 403: a scope that the key lacks: the response names it
{curl} {url}/v1/projects/p-1/blueprints {key}
# 403: another project
{curl} {url}/v1/blueprints/p-2-b1/editions {key}
# 413: more than 5 MB
head -c 5000001 /dev/zero | {curl} '{url}/v1/editions?project=p-1' {key} {json} --data-binary @-
# 500: an output of more than 10 MB: only the operator sees why
{curl} {url}/v1/outputs/p-1-b3-e001-o1/download {outputs}
# 403: plain HTTP: refused, never redirected, and the operator is asked to rotate the key
{curl} {plain_url}/v1/projects {key}
# 201: rotate the key: both are good for a week, unless the old one is revoked before
{curl} {url}/admin/keys/$KEY_ID/rotate {admin} {json} -d '{"overlap_seconds": 604800}' => api_key NEXT
# 200: the old key works
{curl} {url}/v1/projects {key}
# 200: and so does the new one
{curl} {url}/v1/projects {next}
# 200: revoke the old one
{curl} {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 401: it is refused from now on
{curl} {url}/v1/projects {key}
# 200: and its successor is not
{curl} {url}/v1/projects {next}
# 409: a key is revoked only once
{curl} {url}/admin/keys/$KEY_ID/revoke {admin} -X POST
# 200: keys that are older than a year
{curl} '{url}/admin/keys?due_for_rotation_seconds=31536000' {admin}
# 200: all keys, the revoked ones last
{curl} '{url}/admin/keys?with_revoked=true' {admin}
# 200: the events, each with its actor
{curl} {url}/admin/keys/events {admin}
# 200: log in as a member of Meridian
{curl} {url}/admin/login {json} -d '{"code":"{member}"}' => session MEMBER
# 403: who may not even see the list
{curl} {url}/admin/keys -H "X-Session: $MEMBER"
# 200: log in as an administrator of Borealis
{curl} {url}/admin/login {json} -d '{"code":"{other}"}' => session BOREALIS
# 200: who sees no key of Meridian's
{curl} {url}/admin/keys -H "X-Session: $BOREALIS"
