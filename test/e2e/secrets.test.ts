import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createDeployment, type Role } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, echo } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { captureSinks } from './captured-sinks.ts';

const ROLES = ['relay', 'agent', 'gateway'] as const satisfies readonly Role[];
const PAYLOAD = 'payload-0f8b6d3c-of-an-application';

interface Disclosed {
  readonly key: string;
  readonly connection_string: string;
}
interface Listed {
  readonly key_id: string;
}

test('keys, tokens, connection strings and payload are in no log, event, answer, argument or table', async (t) => {
  const target = await echo(t);
  const sinks = await captureSinks(t, temporaryDirectory(t, 'sinks'));
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${target.port}` },
    edit: { relay: sinks.edit, agent: sinks.edit },
  });
  await deployment.startAll();
  const { directory } = deployment;
  assert.equal(await askOnce(t, deployment.listenOf('shop'), PAYLOAD), PAYLOAD);

  const secrets = new Map<string, string>([
    ['owner token', deployment.adminToken],
    ['payload', PAYLOAD],
    ['token for the OTLP receiver', sinks.token],
  ]);
  const command = async <T>(...args: string[]): Promise<T> => {
    const ran = await deployment.command('--json', ...args);
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout) as T;
  };
  const keys = await command<Listed[]>('key', 'list');
  for (const { key_id } of keys) {
    secrets.set(`key ${key_id}`, (await command<Disclosed>('key', 'disclose', key_id)).key);
  }
  const token = await command<{ token: string }>('token', 'create', 'ci', '--role', 'auditor');
  secrets.set('auditor token', token.token);
  const rotated = await command<{ key: Disclosed }>(
    'key',
    'rotate',
    'shop/defaultSender',
    '--slot',
    'secondary',
  );
  secrets.set('rotated key', rotated.key.key);
  const master = JSON.parse(readFileSync(join(directory, 'keyring.json'), 'utf8')) as {
    keys: { key: string }[];
  };
  secrets.set('master key', master.keys[0]?.key ?? '');
  assert.ok(secrets.size >= 9 && [...secrets.values()].every((secret) => secret.length > 16));

  // What goes wrong must not tell either.
  for (const wrong of ['/keys/none', `/keys/${encodeURIComponent(rotated.key.key)}`, '/nothing']) {
    await fetch(`${deployment.adminUrl}/api/v1${wrong}`, {
      headers: { authorization: `Bearer ${token.token}` },
    });
  }
  await eventually('the events of all that are stored', async () => {
    const rows = await deployment.rows<{ n: number }>(
      `select count(*)::int as n from audit.event where type in ('key.disclosed', 'key.rotated', 'stream.close')`,
    );
    return (rows[0]?.n ?? 0) >= keys.length + 2 ? true : undefined;
  });

  const places = new Map<string, string>();
  for (const name of ['syslog', 'otlp'] as const) {
    places.set(
      `what goes to ${name}`,
      await eventually(`${name} has the events of relay and agent`, () => {
        const text = sinks.text(name);
        return text.includes('key.disclosed') && text.includes('stream.close') ? text : undefined;
      }),
    );
  }
  for (const role of ROLES) {
    const { pid } = deployment.process(role);
    places.set(`log of the ${role}`, deployment.process(role).output());
    places.set(`arguments of the ${role}`, readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    places.set(`environment of the ${role}`, readFileSync(`/proc/${pid}/environ`, 'utf8'));
    for (const path of ['/status', '/metrics', '/readyz']) {
      places.set(
        `${path} of the ${role}`,
        await (await fetch(`${deployment.statusUrl(role)}${path}`)).text(),
      );
    }
  }
  for (const list of [
    ['key', 'list'],
    ['key', 'usage'],
    ['token', 'list'],
    ['connection', 'list'],
    ['agents', 'list'],
    ['login', 'list'],
    ['link', 'list'],
    ['stream', 'list'],
    ['revocation', 'list'],
  ]) {
    places.set(list.join(' '), JSON.stringify(await command(...list)));
  }
  const tables = await deployment.rows<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('audit', 'control')`,
  );
  for (const { name } of tables) {
    const rows = await deployment.rows<{ text: string | null }>(
      `select string_agg(t::text, E'\\n') as text from ${name} t`,
    );
    places.set(`table ${name}`, rows[0]?.text ?? '');
  }
  const events = await deployment.rows<{ text: string }>(
    `select string_agg(convert_from(canonical, 'UTF8'), E'\\n') as text from audit.event`,
  );
  places.set('events', events[0]?.text ?? '');
  for (const name of ['relay', 'agent']) {
    const spool = join(directory, 'state', name, 'spool');
    for (const file of readdirSync(spool, { recursive: true, withFileTypes: true })) {
      if (file.isFile())
        places.set(`spool ${file.name}`, readFileSync(join(file.parentPath, file.name), 'latin1'));
    }
  }
  assert.match(places.get('table control.key') ?? '', /k_[0-9a-f]{20}/);
  assert.ok((places.get('events') ?? '').includes('key.disclosed'));

  for (const [place, text] of places) {
    for (const [name, secret] of secrets) {
      assert.ok(!text.includes(secret), `${name} is in: ${place}`);
      const hex = Buffer.from(secret, 'utf8').toString('hex');
      assert.ok(!text.includes(hex), `${name} is in, as hex: ${place}`);
    }
  }
});
