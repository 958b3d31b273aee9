# Makes of keys-example/lethed.toml a deployment's configuration: where data, anchor, and the socket of metrics and
# probes lie, and that the KEK is a credential.
s|^data = .*|data = "/var/lib/lethe"|
s|^path = .*|path = "/var/lib/lethe-anchor/anchor"|
s|^file = "kek"|# &|
s|^# \(credential = \)|\1|
s|^socket = .*|socket = "/run/lethe/metrics.sock"|
