"""HOST CA_FILE: sends a mail of 1 MB, over TLS that it verifies; tells whether the server's digest is that of what was sent."""
import hashlib
import random
import smtplib
import ssl
import sys

host, ca_file = sys.argv[1:]
SENDER = 'clerk@corp.example'
LINES = 16_384

with smtplib.SMTP(host, timeout=60) as mail:
    mail.ehlo()
    mail.mail(SENDER)
    code, text = mail.rcpt(SENDER)
    print(f'without TLS: {code} {text.decode()}')
    mail.rset()
    mail.starttls(context=ssl.create_default_context(cafile=ca_file))
    mail.ehlo()
    print(mail.sock.version())
    mail.mail(SENDER)
    code, text = mail.rcpt('clerk@elsewhere.example')
    print(f'elsewhere: {code} {text.decode()}')
    mail.rcpt(SENDER)
    body = ''.join(f'{random.randbytes(31).hex()}\n' for _ in range(LINES))
    code, text = mail.data(f'From: {SENDER}\nSubject: a long one\n\n{body}')
    same = text.decode() == hashlib.sha256(body.encode()).hexdigest().upper()[:32]
    print('digests agree' if code == 250 and same else f'{code} {text}')
