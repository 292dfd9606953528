"""What a TLS connection that fails is about, in words that name the side at fault, whichever library has failed."""

import ssl

CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The line was cut: the server went away, and may come back."""


def refusal(cause: BaseException | None) -> str:
    """Why it cannot work with these certificates or at this address; empty where it was not TLS that failed.

    Args:
        cause: what was caught; the libraries wrap what ssl has raised, or raise another in its place.
    """
    error = _of_ssl(cause)
    if error is None or isinstance(error, CUT):
        return ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate cannot be trusted: {error.verify_message.rstrip('.')}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason:
        return f"the server does not accept our certificate, or misses it: {reason}"
    if reason in ("wrong version number", "record layer failure", "http request"):
        return "the server does not speak TLS at this port"
    return f"TLS fails: {reason}"


def _of_ssl(cause: BaseException | None) -> ssl.SSLError | None:
    while cause is not None and not isinstance(cause, ssl.SSLError):
        wrapped = next((part for part in cause.args if isinstance(part, BaseException)), None)
        cause = wrapped or cause.__cause__ or cause.__context__
    return cause
