import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PYTHON } from '../../support/python.ts';
import { startBackground } from '../../support/background.ts';
import { findProgram, projectRoot } from '../../support/command.ts';
import type { PrivateNetwork } from '../../support/private-network.ts';
import { type Closer, temporaryDirectory } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';

const MAIL: PublishedTarget = { host: 'mail.corp.example', port: 25 };
const MAX_BODY = '4M';

/** Takes mail for its domain, over TLS alone, and answers with the digest of the body that has come. */
export const startMail = async (
  t: Closer,
  network: PrivateNetwork,
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const directory = temporaryDirectory(t, 'exim');
  mkdirSync(join(directory, 'spool'));
  const { certFile, keyFile } = await network.certificate(MAIL.host);
  const config = join(directory, 'exim.conf');
  writeFileSync(
    config,
    `primary_hostname = ${MAIL.host}
spool_directory = ${directory}/spool
pid_file_path = ${directory}/pid
local_interfaces = ${network.addressOf(MAIL.host)}
daemon_smtp_ports = ${MAIL.port}
exim_user = root
exim_group = root
never_users =
keep_environment =
host_lookup =
rfc1413_hosts =
queue_only = true
tls_advertise_hosts = *
tls_certificate = ${certFile}
tls_privatekey = ${keyFile}
message_body_visible = ${MAX_BODY}
message_body_newlines = true
acl_smtp_rcpt = recipient
acl_smtp_data = message
begin acl
recipient:
  deny
    !encrypted = *
    message = TLS first
  accept
    domains = corp.example
  deny
    message = no such domain here
message:
  accept
    message = \${length_32:\${sha256:$message_body}}
`,
  );
  const server = startBackground(t, findProgram('exim4') ?? '', ['-C', config, '-bdf', '-v']);
  await server.said(/daemon started/);
  return {
    targets: { mail: MAIL },
    cases: [
      {
        name: 'Python smtplib, Exim, STARTTLS with the certificate verified',
        connection: 'mail',
        program: PYTHON,
        args: [join(projectRoot, 'test/drivers/protocols/mail-client.py'), MAIL.host, network.caFile],
        prints: 'without TLS: 550 TLS first\nTLSv1.3\nelsewhere: 550 no such domain here\ndigests agree\n',
        maxStreams: 1,
      },
    ],
  };
};
