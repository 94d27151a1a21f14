"""Mail by SMTP that also trusts the company's certificate authority. A mail server is reached without the proxy."""

from __future__ import annotations

import ssl
from functools import cached_property

from django.core.mail.backends import smtp

from people.outbound import tls_of_system


class EmailBackend(smtp.EmailBackend):
    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        if self.ssl_certfile or self.ssl_keyfile:
            context: ssl.SSLContext = super().ssl_context
            return context
        return tls_of_system()
