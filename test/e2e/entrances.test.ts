import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CommandResult, findProgram, missingPrograms, runCommand } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startNginx, startSshd } from '../support/services.ts';

const PASSWORD = 'a password of the tests';

/** Byte by byte, with Python's own sockets; prints the reply in hex and what comes behind it. */
const SLOW_CLIENT = `
import socket, sys
host, port, name, to = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
client = socket.create_connection((host, port))
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
request = b'GET / HTTP/1.0\\r\\n\\r\\n'
for byte in b'\\x05\\x01\\x00' + b'\\x05\\x01\\x00\\x03' + bytes([len(name)]) + name + to.to_bytes(2, 'big') + request:
    client.sendall(bytes([byte]))
client.shutdown(socket.SHUT_WR)
answer = b''
while True:
    chunk = client.recv(65536)
    if not chunk:
        break
    answer += chunk
print(answer[:12].hex())
print(answer[12:].decode().splitlines()[0])
`;

test('curl, ncat, ssh and Python through the SOCKS5 and CONNECT entrances of a deployment', {
  skip: missingPrograms({
    curl: 'curl',
    ncat: 'ncat',
    nginx: 'nginx-light',
    openssl: 'openssl',
    python3: 'python3',
    ssh: 'openssh-client',
    sshd: 'openssh-server',
  }),
}, async (t) => {
  const web = await startNginx(t);
  const sshd = await startSshd(t);
  const [socksPort, webPort, closedPort, listPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const deployment = await createDeployment(t, {
    publish: {
      web: `127.0.0.1:${web.httpPort}`,
      shell: `127.0.0.1:${sshd.port}`,
      closed: `127.0.0.1:${closedPort}`,
    },
    edit: {
      gateway: (settings) => {
        const connections = settings.connections as { name: string; target?: string; listen?: string }[];
        for (const connection of connections) connection.target = `${connection.name}.corp.example:8080`;
        // One that has no listener of its own.
        delete connections[0]?.listen;
        settings.socks5 = [
          { listen: `127.0.0.1:${socksPort}` },
          {
            listen: `127.0.0.1:${listPort}`,
            connections: ['shell'],
            users: [{ name: 'ops', password: PASSWORD }],
          },
        ];
        settings.http_connect = [{ listen: `127.0.0.1:${webPort}` }];
      },
    },
  });
  await deployment.startAll();

  const curl = (...args: string[]): Promise<CommandResult> =>
    runCommand(findProgram('curl') ?? '', [
      '--silent',
      '--show-error',
      '--noproxy',
      '',
      '--max-time',
      '50',
      ...args,
    ]);
  const socks = ['--socks5-hostname', `127.0.0.1:${socksPort}`];
  const tunnel = ['--proxytunnel', '--proxy', `http://127.0.0.1:${webPort}`];

  await t.test('curl reaches the target by its name, whatever its case, and by the connection', async () => {
    for (const way of [socks, tunnel]) {
      for (const url of [
        'http://web.corp.example:8080/',
        'http://WEB.corp.example.:8080/',
        'http://web:8080/',
      ]) {
        const { code, stdout, stderr } = await curl(...way, url);
        assert.equal(code, 0, stderr);
        assert.equal(stdout, 'request 1 on this connection\n');
      }
    }
  });

  await t.test('what is not listed is refused, and curl says how', async () => {
    for (const url of [
      'http://other.example:8080/',
      'http://web.corp.example:80/',
      `http://127.0.0.1:${web.httpPort}/`,
    ]) {
      const bySocks = await curl(...socks, url);
      assert.equal(bySocks.code, 97, bySocks.stderr);
      assert.match(bySocks.stderr, /\(2\)/);
      const byTunnel = await curl(...tunnel, '--verbose', url);
      assert.equal(byTunnel.code, 56, byTunnel.stderr);
      assert.match(byTunnel.stderr, /< HTTP\/1\.1 403 Forbidden/);
      assert.match(byTunnel.stderr, /< Sallyport-Reason: unlisted/);
    }
    const plain = await curl(
      '--proxy',
      `http://127.0.0.1:${webPort}`,
      '--include',
      'http://web.corp.example:8080/',
    );
    assert.match(plain.stdout, /^HTTP\/1\.1 405 Method Not Allowed\r\n[^]*\r\nAllow: CONNECT\r\n/);
  });

  await t.test('a target at which nothing listens is a refused connection', async () => {
    const bySocks = await curl(...socks, 'http://closed.corp.example:8080/');
    assert.equal(bySocks.code, 97, bySocks.stderr);
    assert.match(bySocks.stderr, /\(5\)/);
    const byTunnel = await curl(...tunnel, '--verbose', 'http://closed.corp.example:8080/');
    assert.match(byTunnel.stderr, /< HTTP\/1\.1 502 Bad Gateway[^]*< Sallyport-Reason: target_unreachable/);
  });

  await t.test('ssh with ncat as its ProxyCommand, by both entrances', async () => {
    const known = join(deployment.directory, 'known_hosts');
    writeFileSync(known, `[shell.corp.example]:8080 ${sshd.hostKey}\n`);
    const proxies = [
      `--proxy-type socks5 --proxy 127.0.0.1:${socksPort}`,
      `--proxy-type socks5 --proxy 127.0.0.1:${listPort} --proxy-auth 'ops:${PASSWORD}'`,
      `--proxy-type http --proxy 127.0.0.1:${webPort}`,
    ];
    for (const proxy of proxies) {
      const ssh = await runCommand(
        findProgram('ssh') ?? '',
        [
          ...[
            '-F',
            'none',
            '-T',
            '-i',
            sshd.keyFile,
            '-p',
            '8080',
            '-o',
            'BatchMode=yes',
            '-o',
            'StrictHostKeyChecking=yes',
          ],
          ...[
            '-o',
            `UserKnownHostsFile=${known}`,
            '-o',
            `ProxyCommand=ncat ${proxy} --proxy-dns remote %h %p`,
          ],
          `${sshd.user}@shell.corp.example`,
          'wc -c; echo over the tunnel',
        ],
        { input: 'x'.repeat(1_000_000) },
      );
      assert.equal(ssh.code, 0, `${proxy}\n${ssh.stderr}`);
      assert.equal(ssh.stdout, '1000000\nover the tunnel\n');
    }
  });

  await t.test('a wrong password, and a connection that the entrance does not list', async () => {
    const wrong = await curl(
      '--socks5-hostname',
      `127.0.0.1:${listPort}`,
      '--proxy-user',
      'ops:wrong',
      'http://shell:8080/',
    );
    assert.equal(wrong.code, 97, wrong.stderr);
    assert.match(wrong.stderr, /User was rejected/);
    const none = await curl('--socks5-hostname', `127.0.0.1:${listPort}`, 'http://shell:8080/');
    assert.equal(none.code, 97, none.stderr);
    const other = [
      '--socks5-hostname',
      `127.0.0.1:${listPort}`,
      '--proxy-user',
      `ops:${PASSWORD}`,
      'http://web:8080/',
    ];
    const unlisted = await curl(...other);
    assert.match(unlisted.stderr, /\(2\)/);
  });

  await t.test('Python, one byte at a time, with early data and an end behind it', async () => {
    const args = ['-c', SLOW_CLIENT, '127.0.0.1', String(socksPort), 'web.corp.example', '8080'];
    const { code, stdout, stderr } = await runCommand(findProgram('python3') ?? '', args);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '050005000001000000000000\nHTTP/1.1 200 OK\n');
  });

  await t.test('the trail names the entrance, and the user where there is one', async () => {
    const labels = await eventually('every entrance is in the trail', async () => {
      const rows = await deployment.rows<{ label: string }>(
        `select distinct (audit.details(canonical) #>> '{data,input}')::jsonb #>> '{source,claimed,label}' as label
           from audit.event where type = 'stream.decision' order by 1`,
      );
      return rows.length < 3 ? undefined : rows.map(({ label }) => label);
    });
    assert.deepEqual(labels, ['http_connect', 'socks5', 'socks5/ops']);
  });

  await t.test('status shows the ways into a gateway', async () => {
    const { code, stdout, stderr } = await deployment.command('status', '-c', deployment.gatewayFile);
    assert.equal(code, 0, stderr);
    assert.match(
      stdout,
      new RegExp(`socks5 +127\\.0\\.0\\.1:${socksPort} +web shell closed +- +127\\.0\\.0\\.0/8 ::1 +no`),
    );
    assert.match(
      stdout,
      new RegExp(`socks5 +127\\.0\\.0\\.1:${listPort} +shell +- +127\\.0\\.0\\.0/8 ::1 +yes`),
    );
    assert.match(stdout, new RegExp(`http_connect +127\\.0\\.0\\.1:${webPort} +web shell closed`));
  });

  await t.test('a revoked key: new streams are refused by name of the reason', async () => {
    const listed = await deployment.command('--json', 'key', 'list', '--connection', 'web');
    const keys = JSON.parse(listed.stdout) as { key_id: string; auth_rule: string; slot: string }[];
    for (const { key_id, auth_rule } of keys) {
      if (auth_rule !== 'defaultSender') continue;
      const revoked = await deployment.command('key', 'revoke', key_id);
      assert.equal(revoked.code, 0, revoked.stderr);
    }
    const byTunnel = await curl(...tunnel, '--verbose', 'http://web.corp.example:8080/');
    assert.equal(byTunnel.code, 56);
    assert.match(byTunnel.stderr, /< HTTP\/1\.1 403 Forbidden[^]*< Sallyport-Reason: key_revoked/);
    const bySocks = await curl(...socks, 'http://web.corp.example:8080/');
    assert.equal(bySocks.code, 97);
    assert.match(bySocks.stderr, /\(2\)/);
  });
});
