#!/usr/bin/env python3
"""Runs tlsfuzzer's scripts for TLS 1.3 against a running gateway, and fails on what is not explained below.

usage: run.py CHECKOUT ADDRESS:PORT NAME [--ecdsa] [--device KEY CERTIFICATE]

CHECKOUT is a clone of https://github.com/tlsfuzzer/tlsfuzzer; run this with a Python that has
`tlslite-ng>=0.9.0b2` and `kyber-py`. NAME is a host name of the gateway. `--ecdsa` says that it shows a
certificate with an ECDSA key, `--device` that NAME takes devices' certificates, and gives one.
docs/concepts/assurance.md says what came of it.
"""

import os
import pathlib
import re
import subprocess
import sys

# RFC 8446 §6.2 gives each alert; rustls ends the handshake all the same, and says why in other words.
ALERT = "another alert ends the connection; no alert is of use to whoever did it (RFC 8446 §6.2)"
NOT_OFFERED = "a group, cipher suite or signature that is not offered is refused (RFC 8446 §4.1.1)"
IGNORED = "what is not understood or needed is ignored, and the handshake is good (RFC 8446 §4.2)"
NO_TLS12 = "TLS 1.2 is not spoken (RFC 8446 §4.2.1: protocol_version)"
WANTS = "it wants a server that does something else than ours"

# Script, arguments, and which conversations end otherwise than it says, with the reason.
SCRIPTS = [
    ("0rtt-garbage", [("downgrade", NO_TLS12), ("invalid 0-RTT", "no ticket of ours allows early data, so none is skipped")]),
    ("ccs", []),
    ("certificate-compression", [("fall back to|algorithm|smoke", "certificates are not compressed (RFC 8879 §3: may)"), ("TLS-1.2", NO_TLS12), ("duplicated", ALERT)]),
    ("connection-abort", [("After NewSessionTicket", "it waits for a ticket after the answer; ours come before")]),
    ("conversation", []),
    ("count-tickets", []),
    ("crfg-curves", [("x448", NOT_OFFERED), ("empty x25519", ALERT)]),
    ("ecdhe-brainpool-curves", [("", NOT_OFFERED)]),
    ("ecdhe-curves", [("x448|secp521r1", NOT_OFFERED), ("secp(256|384)r1|x25519", ALERT)]),
    ("empty-alert", [("empty alert", ALERT)]),
    ("ffdhe-groups", [("", NOT_OFFERED)]),
    ("ffdhe-sanity", [("", NOT_OFFERED)]),
    ("finished", [("truncation|padding", ALERT)]),
    ("finished-plaintext", [("Unencrypted", ALERT)]),
    ("hrr", []),
    ("invalid-ciphers", []),
    ("keyshare-omitted", [("omitted", ALERT)]),
    ("keyupdate", [
        ("app data split", "the answer comes with the next data (RFC 8446 §4.6.3: prior to its next application data)"),
        ("appdata between", "closed without an alert (RFC 8446 §5.1: must not be interleaved)"),
        ("multiple KeyUpdate", "several are answered by one (RFC 8446 §4.6.3)"),
    ]),
    ("keyupdate-from-server", [("from server", WANTS)]),
    ("large-number-of-extensions", [("from 2 to", "known extensions with random content are refused: decode_error")]),
    ("legacy-version", [("version", "only supported_versions counts (RFC 8446 §4.2.1: must not use legacy_version)")]),
    ("lengths", [("length", WANTS)]),
    ("mlkem", [("secp(256|384)r1mlkem|mlkem(512|768|1024)\\b", NOT_OFFERED), ("malformed|x25519mlkem768", ALERT)]),
    ("multiple-ccs-messages", [("CCS", "a second one is dropped as the first (RFC 8446 §5: must simply drop it)")]),
    ("no-unknown-groups", [("between 4356 and 4611", "X25519MLKEM768 (4588) is among them, and known")]),
    ("nociphers", []),
    ("non-support", [("", NO_TLS12)]),
    ("obsolete-curves", [("", IGNORED)]),
    ("pkcs-signature", [("rsa_pkcs1", "refused after ServerHello, encrypted")]),
    ("psk_dhe_ke", [("", "needs a preset key")]),
    ("psk_ke", [("", "needs a preset key")]),
    ("record-layer-limits", [
        ("fuzzed tag", "a record that can't be opened has no length inside: bad_record_mac"),
        ("Finished", ALERT),
        ("too big ClientHello", "plaintext records may be as long as encrypted ones"),
    ]),
    ("record-padding", []),
    ("rsa-signatures", [("rsa_pss_pss", "needs an RSASSA-PSS key")]),
    ("serverhello-random", [("x448|P-521|secp521r1|ffdhe", NOT_OFFERED), ("", NO_TLS12)]),
    ("session-resumption", [("TLS 1.2", NO_TLS12), ("PSK_ONLY", "psk_ke is not offered (RFC 8446 §4.2.9)")]),
    ("shuffled-extentions", [("HRR reversed", IGNORED)]),
    ("signature-algorithms", [
        ("32715", "so long a list doesn't fit into a ClientHello beside the server name"),
        ("^only", "refused after ServerHello, encrypted"),
    ]),
    ("symetric-ciphers", [("CCM", NOT_OFFERED)]),
    ("unencrypted-alert", []),
    ("unrecognised-groups", [("ffdhe2048", NOT_OFFERED)]),
    ("version-negotiation", [("1.2", NO_TLS12)]),
    ("zero-content-type", [("zero content type", "closed without an alert (RFC 8446 §5.4: unexpected_message)")]),
    ("zero-length-data", [("interleaved", "closed without an alert (RFC 8446 §5.1)")]),
]
# For a server with an ECDSA key: what the scripts say of signatures is for one with RSA.
SCRIPTS_ECDSA = [
    "0rtt-garbage", "ccs", "conversation", "count-tickets", "empty-alert", "finished", "finished-plaintext", "hrr",
    "invalid-ciphers", "keyupdate", "multiple-ccs-messages", "nociphers", "record-layer-limits", "record-padding",
    "session-resumption", "symetric-ciphers", "unencrypted-alert", "zero-content-type", "zero-length-data",
]
SCRIPTS_DEVICE = [
    ("certificate-request", [("sigalgs|extensions", "the list is our own; certificate_authorities stands beside it")]),
    ("ecdsa-in-certificate-verify", [
        ("secp(384|521)r1", ALERT),
        ("sigalgs", "the list is our own"),
    ]),
    ("post-handshake-auth", [("", "devices show their certificate in the handshake or not at all")]),
]


def run(checkout, address, script, explained, more, environment):
    host, port = address.rsplit(":", 1)
    count = [] if script == "certificate-request" else ["-n", "20"]
    own = pathlib.Path(__file__).with_name("named.py")
    command = [sys.executable, str(own), "test-tls13-" + script, "-h", host, "-p", port, *count, *more]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    numbers = dict(re.findall(r"^(TOTAL|PASS): (\d+)$", ran.stdout, re.MULTILINE))
    if "TOTAL" not in numbers:
        print(f"{script}: did not run\n{ran.stdout[-500:]}{ran.stderr[-500:]}")
        return False
    failed = re.findall(r"^\t'(.*)'$", ran.stdout, re.MULTILINE)
    good, seen = True, {}
    for conversation in failed:
        reason = next((reason for pattern, reason in explained if re.search(pattern, conversation)), None)
        if reason is None:
            print(f"{script}: UNEXPLAINED: {conversation}")
            good = False
        else:
            seen[reason] = seen.get(reason, 0) + 1
    print(f"{script}: {int(numbers['TOTAL']) - len(failed)} of {numbers['TOTAL']}", *(f"; {n} {why}" for why, n in seen.items()))
    return good


def main():
    checkout, address, name, *rest = sys.argv[1:]
    environment = dict(os.environ, TLS_NAME=name, PYTHONPATH=checkout)
    if "--ecdsa" in rest:
        environment["TLS_ECDSA"] = "1"
    more, scripts = [], [(script, why) for script, why in SCRIPTS if "--ecdsa" not in rest or script in SCRIPTS_ECDSA]
    if "--device" in rest:
        key, certificate = rest[rest.index("--device") + 1:][:2]
        scripts, more = SCRIPTS_DEVICE, ["-k", key, "-c", certificate]
    results = [
        run(checkout, address, script, why, [] if script == "certificate-request" else more, environment)
        for script, why in scripts
    ]
    sys.exit(0 if all(results) else 1)


main()
