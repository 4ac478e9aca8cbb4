"""requests_case.py URL [CA_FILE]: requests, which keeps its connection; https with this authority and no other."""

import sys

import requests

url, *ca_files = sys.argv[1:]

with requests.Session() as session:
    session.trust_env = False
    session.verify = ca_files[0] if ca_files else True
    for _ in range(3):
        answer = session.get(url)
        print(answer.status_code, answer.text.strip())

if ca_files:
    try:
        requests.get(url, proxies={"https": None})
    except requests.exceptions.SSLError as error:
        print("public authorities", "CERTIFICATE_VERIFY_FAILED" in str(error))
