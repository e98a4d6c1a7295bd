const {readFileSync} = require("fs");
const pem = readFileSync("@CERTIFICATE@");
require("http-proxy").createProxyServer({target: "http://@HOST@", xfwd: true, ssl: {key: pem, cert: pem}}).listen(@FRONT@, "127.0.0.1");
