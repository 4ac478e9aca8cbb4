import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkConfig } from '../../src/cli/check.ts';
import { DEFAULT_BUNDLE_FILE } from '../../src/policy/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const GRANT = '{id: a, owner: b@example.com, expires: never, target: {host: db.internal, port: 5432}}';

test('check says what an agent would say of its grants file, before a start with it denies everything', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'agent.yaml');
  const grants = join(directory, 'grants.yaml');
  const key = join(directory, 'audit.key');
  writeFileSync(key, 'x', { mode: 0o600 });
  writeFileSync(
    file,
    [
      'namespace: relay.example.com',
      'name: agent-1',
      'state_dir: state',
      'relays: [{host: relay.example.com, control_port: 5671, data_ports: [9352]}]',
      `connections: [{connection_string_file: ${key}}]`,
      `policy: {bundle_file: ${DEFAULT_BUNDLE_FILE}, data_file: grants.yaml, require_signed: false}`,
      `audit: {spool_dir: spool, key_file: ${key}}`,
      'status: {listen: "127.0.0.1:9362"}',
      '',
    ].join('\n'),
  );
  const problems = async (text: string): Promise<string[]> => {
    writeFileSync(grants, text);
    return (await checkConfig(file)).problems.map((one) => `${one.file} ${one.message}`);
  };
  const missing = (await checkConfig(file)).problems.map(({ message }) => message);
  assert.equal(missing.length, 1, missing.join('\n'));
  assert.match(missing[0] ?? '', /policy\.data_file: .*grants\.yaml/);
  assert.deepEqual(await problems(`orders:\n  reporting:\n    - ${GRANT}\n`), []);
  const [typo, ...others] = await problems(
    `orders:\n  reporting:\n    - ${GRANT.replace('expires', 'expirs')}\n`,
  );
  assert.deepEqual(others, []);
  assert.match(typo ?? '', /grants\.yaml the grants would not be taken: .*orders\.reporting\.0\.expires/);
  assert.match((await problems('orders: [')).join(), /do not parse/);
});
