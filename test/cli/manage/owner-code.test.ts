import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { newKeyringText } from '../../../src/control/index.ts';
import { apiFixture } from '../../control/api-fixture.ts';
import { NAMESPACE } from '../../control/control-fixture.ts';
import { sallyport } from '../../support/command.ts';
import { startPostgres, type TestPostgres } from '../../support/postgres.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

test('the first commands that are given a code put its token into the file; after that it is worthless', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const directory = temporaryDirectory(t, 'owner-code');
  const tokenFile = join(directory, 'owner.token');
  const { code } = await control.ensureOwnerCode();
  writeFileSync(tokenFile, `${code}\n`, { mode: 0o600 });
  const list = (file: string) => sallyport(['token', 'list', '--admin', api.url, '--token-file', file]);
  const ran = await Promise.all([list(tokenFile), list(tokenFile)]);
  assert.deepEqual(
    ran.map((one) => one.code),
    [0, 0],
    ran.map((one) => one.stderr).join('\n'),
  );
  const token = readFileSync(tokenFile, 'utf8').trim();
  assert.match(token, /^t_[0-9a-f]{16}\./);
  assert.equal(statSync(tokenFile).mode & 0o777, 0o600);
  const stolen = join(directory, 'stolen');
  writeFileSync(stolen, `${code}\n`);
  const late = await list(stolen);
  assert.equal(late.code, 1);
  assert.match(late.stderr, /was used or has expired: `sallyport token owner-code -c relay\.yaml`/);
  assert.ok(!late.stderr.includes(code));
  const fromEnvironment = await sallyport(['token', 'list', '--admin', api.url], {
    env: { SALLYPORT_ADMIN_TOKEN: code },
  });
  assert.equal(fromEnvironment.code, 2);
  assert.match(fromEnvironment.stderr, /one-time code: put it into a file/);
});

test('token owner-code makes another with the login of relay.yaml', async (t) => {
  const { api, relayUrl } = await apiFixture(t, postgres);
  const directory = temporaryDirectory(t, 'owner-code');
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    chmodSync(join(directory, name), 0o600);
    return join(directory, name);
  };
  file('keyring.json', newKeyringText());
  const config = file(
    'relay.yaml',
    stringify({
      namespace: NAMESPACE,
      node: 'relay-1',
      state_dir: 'state',
      listen: ['127.0.0.1:0'],
      admin: { listen: '127.0.0.1:0' },
      status: { listen: '127.0.0.1:0' },
      public: { host: 'localhost', control_port: 5671, data_ports: [5671] },
      tls: { cert_file: 'none.pem', key_file: 'none.key' },
      control: { database_url: relayUrl, keyring_file: 'keyring.json' },
      audit: { spool_dir: 'spool', key_file: 'audit.key' },
    }),
  );
  const made = await sallyport(['token', 'owner-code', '-c', config]);
  assert.equal(made.code, 0, made.stderr);
  const tokenFile = file('owner.token', made.stdout);
  const ran = await sallyport(['token', 'list', '--admin', api.url, '--token-file', tokenFile, '--json']);
  assert.equal(ran.code, 0, ran.stderr);
  const rows = JSON.parse(ran.stdout) as { id: string; one_time: boolean; revoked_at: string | null }[];
  assert.ok(rows.some((row) => row.one_time && row.revoked_at !== null));
});
