"""Signs tokens with PyJWT and three new keys. Writes the JWK Set, and the tokens by algorithm, as JSON."""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

claims = {**json.loads(sys.argv[1]), "iat": int(time.time()), "nbf": int(time.time()), "exp": int(time.time()) + 600}
rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ec_key = ec.generate_private_key(ec.SECP256R1())
ed_key = ed25519.Ed25519PrivateKey.generate()
keys, tokens = [], {}
for kid, key, kind, algorithms in [
    ("pyjwt-rsa", rsa_key, RSAAlgorithm, ["RS256", "PS384"]),
    ("pyjwt-ec", ec_key, ECAlgorithm, ["ES256"]),
    ("pyjwt-ed", ed_key, OKPAlgorithm, ["EdDSA"]),
]:
    keys.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
    for algorithm in algorithms:
        tokens[algorithm] = jwt.encode(claims, key, algorithm, headers={"kid": kid})
json.dump({"jwks": {"keys": keys}, "tokens": tokens}, sys.stdout)
