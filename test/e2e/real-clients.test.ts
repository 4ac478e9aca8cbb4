import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram, missingPrograms, runCommand } from '../support/command.ts';
import { startMariadb, startNginx } from '../support/services.ts';
import { startUp } from '../support/up.ts';

const portOf = (address: string): string => address.slice(address.lastIndexOf(':') + 1);

test("MariaDB's own client against a real MariaDB through the tunnel", {
  skip: missingPrograms({
    mariadb: 'mariadb-client',
    mariadbd: 'mariadb-server',
    'mariadb-install-db': 'mariadb-server',
  }),
}, async (t) => {
  const server = await startMariadb(t);
  const up = await startUp(t, { publish: { shop: `127.0.0.1:${server.port}` } });
  const ask = (sql: string): ReturnType<typeof runCommand> =>
    runCommand(
      findProgram('mariadb') ?? '',
      [
        '--no-defaults',
        '--protocol=TCP',
        '--host=127.0.0.1',
        `--port=${portOf(up.listenOf('shop'))}`,
        `--user=${server.user}`,
        `--password=${server.password}`,
        '--batch',
        '--skip-column-names',
        server.database,
      ],
      { input: sql },
    );
  const written = await ask(
    "create table orders (id int primary key, body longtext);\ninsert into orders values (1, repeat('x', 4000000)), (2, 'second');",
  );
  assert.equal(written.code, 0, written.stderr);
  const read = await ask('select id, length(body), md5(body) from orders;');
  assert.equal(read.code, 0, read.stderr);
  const expected = await ask("select md5(repeat('x', 4000000)), md5('second');");
  const [long = '', short = ''] = expected.stdout.trim().split('\t');
  assert.equal(read.stdout, `1\t4000000\t${long}\n2\t6\t${short}\n`);
  const whole = await ask('select body from orders where id = 1;');
  assert.equal(whole.stdout.length, 4_000_001);

  const wrong = await runCommand(findProgram('mariadb') ?? '', [
    '--no-defaults',
    '--protocol=TCP',
    '--host=127.0.0.1',
    `--port=${portOf(up.listenOf('shop'))}`,
    '--user=nobody',
    '--password=wrong',
    '--execute=select 1',
  ]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /Access denied for user 'nobody'/, 'authorization stays end to end');
});

test('curl over HTTP and HTTPS with keep-alive against nginx through the tunnel', {
  skip: missingPrograms({ curl: 'curl', nginx: 'nginx-light', openssl: 'openssl' }),
}, async (t) => {
  const server = await startNginx(t);
  const up = await startUp(t, {
    publish: { web: `127.0.0.1:${server.httpPort}`, 'web-tls': `127.0.0.1:${server.httpsPort}` },
  });
  for (const url of [
    `http://127.0.0.1:${portOf(up.listenOf('web'))}/`,
    `https://localhost:${portOf(up.listenOf('web-tls'))}/`,
  ]) {
    const curl = await runCommand(findProgram('curl') ?? '', [
      '--silent',
      '--show-error',
      '--noproxy',
      '*',
      '--cacert',
      server.caFile,
      '--write-out',
      'connects %{num_connects}, status %{http_code}\\n',
      url,
      url,
      url,
    ]);
    assert.equal(curl.code, 0, curl.stderr);
    assert.deepEqual(curl.stdout.trim().split('\n'), [
      'request 1 on this connection',
      'connects 1, status 200',
      'request 2 on this connection',
      'connects 0, status 200',
      'request 3 on this connection',
      'connects 0, status 200',
    ]);
  }
});
