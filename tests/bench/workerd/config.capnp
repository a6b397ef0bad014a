# Two echoes on workerd: `workerd serve config.capnp write` and `workerd serve config.capnp pipe`.

using Workerd = import "/workerd/workerd.capnp";

const write :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "write", esModule = embed "write.mjs")],
    compatibilityDate = "2026-11-01",
  ))],
  sockets = [(name = "tcp", address = "127.0.0.1:0", tcp = (), service = "main")],
);

const pipe :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "pipe", esModule = embed "pipe.mjs")],
    compatibilityDate = "2026-11-01",
  ))],
  sockets = [(name = "tcp", address = "127.0.0.1:0", tcp = (), service = "main")],
);
