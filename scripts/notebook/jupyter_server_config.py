"""The server's settings. Its token is in the environment: JUPYTER_TOKEN."""

c = get_config()  # noqa: F821
c.ServerApp.ip = "0.0.0.0"  # of its container, whose port is open on 127.0.0.1 of the host alone
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.allow_root = True  # without any capability: a clone of root, and each one of a rootless engine
c.ServerApp.open_browser = False
c.ServerApp.allow_remote_access = False  # a page of another name that leads here is refused
c.ServerApp.root_dir = "/work"
c.ServerApp.preferred_dir = "/work/notebooks"
c.ServerApp.terminado_settings = {"shell_command": ["sh"]}
c.LabApp.extension_manager = "readonly"  # what is in the image is in its requirements.txt
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
