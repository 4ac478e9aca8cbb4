"""Why a verification could not be made at all; what is wrong with the trail is a finding, never a failure."""

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class Failure(Exception):
    """Carries a code for programs and the exit code of the command."""

    def __init__(self, code: str, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code

    def __reduce__(self) -> tuple:
        return Failure, (self.code, str(self), self.exit_code)
