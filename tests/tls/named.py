"""Runs a script of tlsfuzzer with a server name in each ClientHello, as clients of ours have one.

usage: named.py SCRIPT ARGUMENT…, with the name in TLS_NAME; with TLS_ECDSA set, each ClientHello takes
ECDSA signatures too, since most scripts are written for servers with RSA keys.
"""

import importlib
import os
import sys

from tlslite.extensions import SNIExtension
from tlsfuzzer import expect, messages

SERVER_NAME, SIGNATURES, CERTIFICATE_SIGNATURES = 0, 13, 50
ECDSA_SECP256R1_SHA256 = (4, 3)


def with_name(self, state):
    extensions = generated(self, state)
    if all(extension.extType != SERVER_NAME for extension in extensions):
        extensions.insert(0, SNIExtension().create(os.environ["TLS_NAME"].encode()))
    if "TLS_ECDSA" in os.environ:
        for extension in extensions:
            if extension.extType in (SIGNATURES, CERTIFICATE_SIGNATURES) and extension.sigalgs is not None:
                if ECDSA_SECP256R1_SHA256 not in extension.sigalgs:
                    extension.sigalgs.append(ECDSA_SECP256R1_SHA256)
    return extensions


def without_name(self, message):
    message.extensions = [extension for extension in message.extensions or [] if extension.extType != SERVER_NAME]
    return compared(self, message)


generated = messages.ClientHelloGenerator._generate_extensions
messages.ClientHelloGenerator._generate_extensions = with_name
compared = expect.ExpectEncryptedExtensions._compare_extensions
expect.ExpectEncryptedExtensions._compare_extensions = without_name
sys.argv = sys.argv[1:]
importlib.import_module("tlsfuzzer._apps." + sys.argv[0].replace("-", "_")).main()
