import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { createSasToken, parseConnectionString } from '../../src/identity/index.ts';
import { type CommandResult, sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { askOnce, echo, listen } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** A refusal is plain: the right code, the thing named, no stack trace, and nothing of a secret. */
const refusedPlainly = (result: CommandResult, code: number, pattern: RegExp): void => {
  const said = `${result.stdout}${result.stderr}`;
  assert.equal(result.code, code, said);
  assert.match(said, pattern);
  assert.doesNotMatch(said, /^\s+at .+:\d+:\d+/m, 'a stack trace');
  assert.doesNotMatch(said, /node:internal/);
};

/** More than the failures that one address may have with one key at a burst. */
const GUESSES = 40;

const GATEWAY_YAML = `namespace: localhost
name: gateway-1
state_dir: state
relays:
  - host: localhost
    control_port: 5671
    data_ports: [5671]
connections:
  - name: shop
    connection_string: Endpoint=sb://localhost/;SharedAccessKeyName=defaultSender;SharedAccessKey=PLANTED;EntityPath=shop
    listen: 127.0.0.1:0
status:
  listen: 127.0.0.1:0
`;

test('configuration that cannot be used', async (t) => {
  const directory = temporaryDirectory(t, 'config');
  const file = (name: string, content: string): string => {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  };
  const cases: readonly (readonly [name: string, path: string, pattern: RegExp])[] = [
    ['a file that is not there', join(directory, 'absent.yaml'), /absent\.yaml/],
    ['a directory', directory, new RegExp(directory)],
    ['malformed YAML', file('malformed.yaml', 'namespace: [\n  relays: }\n'), /malformed\.yaml:\d+:\d+/],
    ['another document', file('list.yaml', '- 1\n- 2\n'), /list\.yaml/],
    ['an empty file', file('empty.yaml', ''), /empty\.yaml/],
    [
      'an unknown key, with a suggestion',
      file('typo.yaml', GATEWAY_YAML.replace('state_dir', 'statedir')),
      /typo\.yaml:3:\d+[\s\S]*state_dir/,
    ],
    [
      'a port beyond the limit',
      file('port.yaml', GATEWAY_YAML.replace('control_port: 5671', 'control_port: 70000')),
      /port\.yaml:6:\d+[\s\S]*(65535|control_port)/,
    ],
    [
      'poison in a name',
      file('poison.yaml', GATEWAY_YAML.replace('name: shop', 'name: "sh\\0op\\e[31m"')),
      /poison\.yaml/,
    ],
    ['binary', file('binary.yaml', '\u0000\u0001\u0002'), /binary\.yaml/],
  ];
  for (const [name, path, pattern] of cases) {
    await t.test(name, async () => {
      for (const command of ['gateway', 'check']) {
        const result = await sallyport([command, '-c', path]);
        refusedPlainly(result, 2, pattern);
        assert.doesNotMatch(`${result.stdout}${result.stderr}`, /PLANTED|\u0000|\u001b/);
      }
    });
  }
  await t.test('several problems are said at once', async () => {
    const path = file(
      'many.yaml',
      GATEWAY_YAML.replace('control_port: 5671', 'control_port: 0').replace('name: gateway-1', 'name: Ä'),
    );
    refusedPlainly(await sallyport(['gateway', '-c', path]), 2, /many\.yaml:2:\d+[\s\S]*many\.yaml:6:\d+/);
  });
});

test('commands that cannot be done', async (t) => {
  const directory = temporaryDirectory(t, 'commands');
  const aFile = join(directory, 'file');
  writeFileSync(aFile, 'x');
  const garbled = join(directory, 'garbled');
  mkdirSync(garbled);
  writeFileSync(join(garbled, 'state.json'), '{"passwords": {"a": "PLANTED"');
  const closed = await freePort();
  const cases: readonly (readonly [name: string, args: readonly string[], code: number, pattern: RegExp])[] =
    [
      ['an unknown command', ['frobnicate'], 2, /frobnicate/],
      ['an unknown option', ['up', '--frobnicate'], 2, /--frobnicate/],
      ['a publication without a port', ['up', '--publish', 'x=localhost'], 2, /x=localhost|localhost/],
      ['a connection name with poison', ['up', '--publish', 'x\u001b[31m=localhost:1'], 2, /publish/],
      ['state that is a file', ['up', '--state', aFile], 2, /file/],
      ['state that cannot be read', ['up', '--state', garbled], 2, /state\.json/],
      ['no running up', ['status', '--state', join(directory, 'nothing')], 2, /give --admin URL/],
      [
        'a management API out of reach',
        ['key', 'list', '--admin', `http://127.0.0.1:${closed}`, '--token-file', aFile],
        3,
        new RegExp(String(closed)),
      ],
      [
        'a database out of reach',
        ['migrate', '--database', `postgres://u:PLANTED@127.0.0.1:${closed}/x`],
        3,
        new RegExp(String(closed)),
      ],
      ['a database that is no URL', ['migrate', '--database', 'PLANTED'], 2, /postgres:\/\//],
    ];
  for (const [name, args, code, pattern] of cases) {
    await t.test(name, async () => {
      const result = await sallyport(args, { cwd: directory });
      refusedPlainly(result, code, pattern);
      assert.doesNotMatch(`${result.stdout}${result.stderr}`, /PLANTED|\u001b/);
    });
  }
});

test('credentials, names and text that are not good, against a running installation', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  assert.equal(await askOnce(t, deployment.listenOf('shop'), 'fine'), 'fine');
  const string = parseConnectionString(
    readFileSync(join(deployment.directory, 'connections/shop.send'), 'utf8').trim(),
  );
  const ca = readFileSync(join(deployment.directory, 'ca.pem'));

  /** The handshake of a control link as anybody may send it. */
  const handshake = (headers: Record<string, string>): Promise<{ status: number; code: string }> =>
    new Promise((resolve, reject) => {
      const call = httpsRequest({
        host: 'localhost',
        port: deployment.relayPort,
        path: '/.sallyport/v1/control',
        ca,
        headers: {
          Connection: 'Upgrade',
          Upgrade: 'websocket',
          'Sec-WebSocket-Version': '13',
          'Sec-WebSocket-Key': Buffer.alloc(16, 7).toString('base64'),
          'Sec-WebSocket-Protocol': 'sallyport.v1',
          'Sallyport-Role': 'gateway',
          ...headers,
        },
      });
      call.on('error', reject);
      call.on('upgrade', (_response, socket) => {
        socket.destroy();
        resolve({ status: 101, code: '' });
      });
      call.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString('utf8')));
        response.on('end', () => {
          const { code } = JSON.parse(body) as { code: string };
          resolve({ status: response.statusCode ?? 0, code });
        });
      });
      call.end();
    });
  const inAnHourS = Math.floor(Date.now() / 1000) + 3_600;
  const token = (change: {
    key?: string;
    keyName?: string;
    expiresAtS?: number;
    resource?: string;
  }): string =>
    createSasToken({
      resource: 'http://localhost/shop',
      keyName: string.keyName,
      key: string.key,
      expiresAtS: inAnHourS,
      ...change,
    });

  const handshakes: readonly (readonly [
    name: string,
    headers: Record<string, string>,
    status: number,
    code: RegExp,
  ])[] = [
    ['a good token', { Authorization: token({}), 'Sallyport-Connection': 'shop' }, 101, /^$/],
    ['no token', { 'Sallyport-Connection': 'shop' }, 401, /./],
    [
      'a wrong key',
      {
        Authorization: token({ key: Buffer.alloc(32, 1).toString('base64') }),
        'Sallyport-Connection': 'shop',
      },
      401,
      /./,
    ],
    [
      'an expired token',
      { Authorization: token({ expiresAtS: inAnHourS - 7_200 }), 'Sallyport-Connection': 'shop' },
      401,
      /expired/,
    ],
    [
      'an unknown rule',
      { Authorization: token({ keyName: 'nobody' }), 'Sallyport-Connection': 'shop' },
      401,
      /./,
    ],
    [
      'an unknown connection says no more than a wrong key',
      { Authorization: token({ resource: 'http://localhost/nope' }), 'Sallyport-Connection': 'nope' },
      401,
      /./,
    ],
    [
      'a token for another connection',
      { Authorization: token({ resource: 'http://localhost/other' }), 'Sallyport-Connection': 'shop' },
      401,
      /token_resource/,
    ],
    [
      'a token whose sr was widened',
      { Authorization: token({}).replace('%2Fshop', '%2F'), 'Sallyport-Connection': 'shop' },
      401,
      /not_authorized/,
    ],
    [
      'a token whose se was moved',
      {
        Authorization: token({ expiresAtS: inAnHourS - 7_200 }).replace(/se=\d+/, `se=${inAnHourS}`),
        'Sallyport-Connection': 'shop',
      },
      401,
      /not_authorized/,
    ],
    [
      'a token that is too long',
      { Authorization: `${token({})}&x=${'x'.repeat(5_000)}`, 'Sallyport-Connection': 'shop' },
      400,
      /token_too_long/,
    ],
    [
      'poison',
      {
        Authorization: 'SharedAccessSignature sr=%00&sig=%ff&se=1&skn=%ED%A0%80',
        'Sallyport-Connection': 'shop',
      },
      401,
      /./,
    ],
  ];
  for (const [name, headers, status, code] of handshakes) {
    await t.test(`handshake: ${name}`, async () => {
      const answer = await handshake(headers);
      assert.equal(answer.status, status, JSON.stringify(answer));
      assert.match(answer.code, code);
    });
  }

  await t.test('headers without end are refused', async () => {
    const call = httpsRequest({
      host: 'localhost',
      port: deployment.relayPort,
      path: '/.sallyport/v1/control',
      ca,
      headers: { 'X-Fill': 'x'.repeat(64 * 1024) },
    });
    const status = await new Promise<number | undefined>((resolve, reject) => {
      call.on('response', (response) => resolve(response.resume().statusCode));
      call.on('error', reject);
      call.end();
    });
    assert.equal(status, 431);
  });

  await t.test('a gateway with a wrong key says so and does not come up', async () => {
    const own = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
    const wrong = readFileSync(join(own.directory, 'connections/shop.send'), 'utf8').replace(
      /SharedAccessKey=[^;\n]+/,
      `SharedAccessKey=${Buffer.alloc(32, 9).toString('base64')}`,
    );
    writeFileSync(join(own.directory, 'connections/shop.send'), wrong);
    own.start('relay');
    await own.ready('relay');
    const gateway = own.start('gateway');
    await gateway.said(/401|not_authorized|refused/i);
    const readiness = await fetch(`${own.statusUrl('gateway')}/readyz`);
    assert.equal(readiness.status, 503);
    assert.doesNotMatch(gateway.output(), new RegExp(Buffer.alloc(32, 9).toString('base64').slice(0, 20)));
  });

  await t.test('a port in use is named', async () => {
    const taken = await listen(t, (socket) => socket.destroy());
    deployment.edit('gateway', (settings) => {
      settings.name = 'gateway-3';
      settings.state_dir = 'state/gateway-3';
      settings.status = { listen: '127.0.0.1:0' };
      (settings.connections as Record<string, unknown>[])[0]!.listen = `127.0.0.1:${taken.port}`;
    });
    const result = await sallyport(['gateway', '-c', join(deployment.directory, 'gateway.yaml')], {
      cwd: deployment.directory,
      deadlineMs: 20_000,
    });
    refusedPlainly(result, 3, new RegExp(`127\\.0\\.0\\.1:${taken.port}`));
  });

  await t.test('commands about things that are not there', async () => {
    refusedPlainly(await deployment.command('connection', 'show', 'nope'), 1, /nope/);
    refusedPlainly(await deployment.command('why', 'nope'), 1, /nope/);
    refusedPlainly(
      await deployment.command('key', 'revoke', 'k_00000000000000000000', '--reason', 'x'),
      1,
      /k_00000000000000000000/,
    );
  });

  await t.test('who guesses is throttled and on record, who has the key is not', async () => {
    const guess = { Authorization: token({ key: Buffer.alloc(32, 2).toString('base64') }) };
    const statuses: number[] = [];
    while (statuses.length < GUESSES && statuses.at(-1) !== 429) {
      statuses.push((await handshake({ ...guess, 'Sallyport-Connection': 'shop' })).status);
    }
    assert.equal(statuses.at(-1), 429, statuses.join(' '));
    const good = await handshake({ Authorization: token({}), 'Sallyport-Connection': 'shop' });
    assert.equal(good.status, 101, 'from the same address, with the name of the same rule');
    assert.equal(await askOnce(t, deployment.listenOf('shop'), 'fine'), 'fine');
    await eventually('every kind of failure is recorded', async () => {
      const rows = await deployment.rows<{ code: string }>(
        `select distinct convert_from(canonical, 'UTF8')::jsonb #>> '{data,code}' as code
           from audit.event where type = 'auth.failed'`,
      );
      const codes = new Set(rows.map(({ code }) => code));
      for (const code of ['not_authorized', 'token_expired', 'token_malformed', 'token_resource']) {
        assert.ok(codes.has(code), `${code} is not among ${[...codes].join(' ')}`);
      }
      return true;
    });
  });

  await t.test('poison text in every field blocks no chain', async () => {
    const poison = 'a\u0000b\ud800c\u001b[31m%eth0\u202e\r\n=cmd()';
    const call = async (method: string, path: string, body: unknown): Promise<number> => {
      const response = await fetch(`${deployment.adminUrl}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${deployment.adminToken}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const said = await response.text();
      assert.ok(response.status < 500, `${method} ${path}: ${response.status} ${said}`);
      assert.doesNotMatch(said, /\s+at .+:\d+:\d+/);
      return response.status;
    };
    for (const [path, body] of [
      ['/connections', { name: poison, target: { host: 'x', port: 1 } }],
      ['/connections', { name: 'poison', target: { host: poison, port: 1 } }],
      ['/connections', { name: 'zone', target: { host: 'fe80::1%eth0', port: 1 } }],
      ['/connections', { name: 'labels', target: { host: 'x', port: 1 }, labels: { [poison]: poison } }],
      ['/auth-rules', { scope: 'shop', name: poison, claims: ['Send'] }],
      [`/keys/${encodeURIComponent(poison.replaceAll('\ud800', ''))}/revoke`, { reason: 'x' }],
    ] as const) {
      const status = await call('POST', path, body);
      assert.ok(status === 400 || status === 404, `${path}: ${status}`);
    }
    const listed = await deployment.command('--json', 'key', 'list', '--connection', 'shop');
    const keys = JSON.parse(listed.stdout) as { key_id: string; auth_rule: string; slot: string }[];
    const spare = keys.find((key) => key.auth_rule.endsWith('defaultListener') && key.slot === 'secondary');
    assert.ok(spare);
    assert.equal(await call('POST', `/keys/${spare.key_id}/revoke`, { reason: poison }), 400);
    const odd = '=cmd()|"\'\\ \u{1f3f4} ünïcode';
    assert.equal(await call('POST', `/keys/${spare.key_id}/revoke`, { reason: odd }), 200);
    await handshake({ Authorization: token({ keyName: 'x%00\ufffd' }), 'Sallyport-Connection': 'shop' });

    assert.equal(await askOnce(t, deployment.listenOf('shop'), 'after the poison'), 'after the poison');
    await eventually('events after the poison arrive', async () => {
      const [row] = await deployment.rows<{ revoked: string; closes: string; failures: string }>(
        `select count(*) filter (where type = 'key.revoked') as revoked,
                count(*) filter (where type = 'stream.close') as closes,
                count(*) filter (where type = 'auth.failed') as failures from audit.event`,
      );
      if (row === undefined) throw new Error('no row');
      assert.ok(Number(row.revoked) >= 1 && Number(row.closes) >= 2, JSON.stringify(row));
      return Number(row.revoked) >= 1 && Number(row.closes) >= 2 && Number(row.failures) >= 1
        ? true
        : undefined;
    });
    const verified = await sallyport([
      '--json',
      'audit',
      'verify',
      '--database',
      deployment.databaseUrl,
      '--trust',
      join(deployment.directory, 'trust.json'),
    ]);
    const { findings } = JSON.parse(verified.stdout) as { findings: unknown[] };
    assert.deepEqual(findings, []);
  });
});
