import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { newKeyringText, openControl } from '../../src/control/index.ts';
import { sasCredential } from '../../src/identity/index.ts';
import { relayConfigSchema, startRelay } from '../../src/relay/index.ts';
import { createLinkCertificate, isAppError, silentLogger, systemClock } from '../../src/runtime/index.ts';
import { controlDatabase } from '../control/control-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { HOST, openLink, TestLogin, TLS } from './relay-fixture.ts';

const deps = { clock: systemClock, logger: silentLogger };

const settings = (directory: string, databaseUrl: string) => {
  const file = (name: string, content: string): string => {
    const path = join(directory, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  return relayConfigSchema.parse({
    namespace: 'relay.test',
    node: 'node-1',
    state_dir: join(directory, 'state'),
    listen: [`${HOST}:0`],
    tls: { cert_file: file('cert.pem', TLS.cert), key_file: file('key.pem', TLS.key) },
    public: { host: HOST, control_port: 443, data_ports: [443] },
    admin: { listen: `${HOST}:0` },
    status: { listen: `${HOST}:0` },
    control: { database_url: databaseUrl, keyring_file: file('keyring', newKeyringText()) },
    audit: { spool_dir: join(directory, 'spool'), key_file: join(directory, 'audit-key.pem') },
  });
};

test('a relay process admits by a real key, joins a link, revokes it through its API and drains', async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const { relayUrl: databaseUrl } = await controlDatabase(postgres);
  const directory = temporaryDirectory(t, 'relay');
  const jsonlDir = join(directory, 'jsonl');
  const base = settings(directory, databaseUrl);
  const config = { ...base, audit: { ...base.audit, jsonl_dir: jsonlDir } };
  const relay = await startRelay(config, deps);
  t.after(() => relay.close());
  const owner = await openControl({
    databaseUrl,
    keyring: config.control.keyring_file,
    namespace: config.namespace,
    node: 'test',
    ...deps,
  });
  await owner.ensureNamespace();
  const { token } = await owner.ensureOwnerToken('test');
  await owner.close();
  const call = async (path: string, body: object): Promise<Record<string, unknown>> => {
    const response = await fetch(`${relay.adminUrl}/api/v1${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.ok(response.ok, `${path}: ${response.status}`);
    return (await response.json()) as Record<string, unknown>;
  };
  const created = await call('/connections', { name: 'db', target: { host: 'db.internal', port: 5432 } });
  const keys = created['keys'] as {
    auth_rule: string;
    slot: string;
    key_id: string;
    connection_string: string;
  }[];
  const keyOf = (rule: string) => {
    const key = keys.find(({ auth_rule, slot }) => auth_rule === rule && slot === 'primary');
    assert.ok(key);
    return key;
  };

  const port = Number(relay.addresses[0]?.split(':').at(-1));
  const node = { host: HOST, control_port: port, data_ports: [port] };
  const listen = sasCredential(keyOf('defaultListener').connection_string);
  const agent = new TestLogin(node, 'agent', 'agent-1', [listen]);
  const gateway = new TestLogin(node, 'gateway', 'gateway-1', [
    sasCredential(keyOf('defaultSender').connection_string),
  ]);
  t.after(() => Promise.all([agent.login.close(), gateway.login.close()]));
  agent.login.start();
  gateway.login.start();
  await agent.until('onAttached');
  const { cred, key_id: sendKey } = await gateway.until('onAttached');
  assert.equal(sendKey, keyOf('defaultSender').key_id);
  const agentCertificate = await createLinkCertificate('agent-1', systemClock);
  const gatewayCertificate = await createLinkCertificate('gateway-1', systemClock);
  await agent.login.publish('db', listen.handle, agentCertificate.spki);
  const ends = { agent, gateway, agentCertificate, gatewayCertificate, cred };
  const link = await openLink({ config: node }, ends);
  for (const { duplex } of [link.agentPeer, link.gatewayPeer]) duplex.on('error', () => undefined).resume();
  const ready = await fetch(`${relay.statusUrl}/readyz`);
  assert.equal(ready.status, 200, await ready.text());

  const revoked = await call(`/keys/${sendKey}/revoke`, { reason: 'test' });
  assert.deepEqual([revoked['links'], revoked['streams'], revoked['pending']], [1, 3, []]);
  const closed = await agent.until('onLinkClosed', ({ link_id }) => link_id === link.offer.link_id);
  assert.equal(closed.reason, 'key_revoked');
  const down = await gateway.until('onDown', ({ status }) => status !== undefined);
  assert.deepEqual([down.status, down.code], [401, 'key_revoked']);

  const anonymous = await fetch(`${relay.adminUrl}/api/v1/connections`);
  assert.equal(anonymous.status, 401);
  await relay.reload(config);
  await relay.drain();
  await relay.close();
  const lines = readdirSync(jsonlDir).map((name) => readFileSync(join(jsonlDir, name), 'utf8'));
  assert.match(lines.join(''), /"code":"token_missing".*"type":"auth\.failed"/);
});

test('a certificate that cannot be used is refused before anything is opened', async (t) => {
  const config = settings(temporaryDirectory(t, 'relay'), 'postgres://127.0.0.1:1/none');
  writeFileSync(config.tls.cert_file, 'not a certificate');
  await assert.rejects(
    startRelay(config, deps),
    (error) => isAppError(error, 'ERR_RELAY_TLS') && error.message.includes(config.tls.cert_file),
  );
});

test('a relay starts fenced while its database is away, and a taken port closes everything again', async (t) => {
  const config = settings(temporaryDirectory(t, 'relay'), 'postgres://127.0.0.1:1/none');
  const relay = await startRelay(config, deps);
  t.after(() => relay.close());
  const ready = await fetch(`${relay.statusUrl}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /control database/);
  const taken = { ...settings(temporaryDirectory(t, 'relay'), 'postgres://127.0.0.1:1/none') };
  await assert.rejects(startRelay({ ...taken, listen: [relay.addresses[0] ?? ''] }, deps), (error) =>
    isAppError(error, 'ERR_LISTEN_REFUSED'),
  );
});

test('a relay whose name or address another process has says so in /readyz, and is ready when it is alone', async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const { relayUrl: databaseUrl } = await controlDatabase(postgres);
  const start = async (node: string, publicPort: number) => {
    const config = settings(temporaryDirectory(t, 'relay'), databaseUrl);
    const { host } = config.public;
    const relay = await startRelay(
      {
        ...config,
        node,
        // Keys of one namespace are opened with one keyring.
        control: { ...config.control, keyring_file: keyring },
        public: { host, control_port: publicPort, data_ports: [publicPort] },
      },
      deps,
    );
    t.after(() => relay.close());
    return relay;
  };
  const says = (relay: { readonly statusUrl: string }, status: number, reason: RegExp): Promise<boolean> =>
    eventually(`${status} ${String(reason)}`, async () => {
      const response = await fetch(`${relay.statusUrl}/readyz`);
      const body = await response.text();
      if (response.status !== status || !reason.test(body)) throw new Error(`${response.status} ${body}`);
      return true;
    });
  const keyring = settings(temporaryDirectory(t, 'relay'), databaseUrl).control.keyring_file;
  const unused = await freePort();
  const first = await start('node-1', unused);
  await says(first, 200, /./);
  const port = Number(first.addresses[0]?.split(':').at(-1));

  const misled = await start('node-2', port);
  await says(misled, 503, new RegExp(`${HOST}:${port} is answered by another process as well`));
  await misled.close();

  const sharing = await start('node-3', unused);
  await says(sharing, 503, /node node-1 has the public address of this node, 127\.0\.0\.1/);
  await says(first, 503, /node node-3 has the public address of this node, 127\.0\.0\.1/);
  await sharing.close();
  await says(first, 200, /./);

  const namesake = await start('node-1', await freePort());
  await says(first, 503, /another process runs under the name of this node, node-1/);
  await says(namesake, 503, /another process runs under the name of this node, node-1/);
  await namesake.close();
  await says(first, 200, /./);
});
