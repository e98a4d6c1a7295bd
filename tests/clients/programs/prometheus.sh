# Scrapes the recorder once.
cat > prometheus.yml <<YAML
scrape_configs:
- job_name: v1
  scrape_interval: 1s
  scrape_timeout: 1s
  authorization: {credentials: $KEY}
  static_configs: [{targets: ["$HOST"]}]
YAML
timeout 6 prometheus --config.file prometheus.yml --web.listen-address "127.0.0.1:$FRONT" --storage.tsdb.path data
