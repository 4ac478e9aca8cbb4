import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { sallyport } from '../support/command.ts';
import { startPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const compile = (text: string): ValidateFunction =>
  new Ajv2020({ strict: false }).compile(JSON.parse(text) as object);

test("each file of init names its schema, which an editor's validator accepts it by", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const directory = join(temporaryDirectory(t, 'schema'), 'files');
  const database = await postgres.createDatabase();
  const init = await sallyport(['init', directory, '--publish', 'shop=127.0.0.1:9', '--database', database]);
  assert.equal(init.code, 0, init.stderr);
  for (const kind of ['relay', 'agent', 'gateway']) {
    const text = readFileSync(join(directory, `${kind}.yaml`), 'utf8');
    const named = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text)?.[1];
    assert.equal(named, `${kind}.schema.json`);
    const schema = readFileSync(join(directory, named), 'utf8');
    const printed = await sallyport(['check', '--schema', kind]);
    assert.equal(printed.stdout, schema);
    const validate = compile(schema);
    assert.ok(validate(parse(text)), JSON.stringify(validate.errors));
    assert.ok(!validate({ ...(parse(text) as object), nonsense: 1 }), 'unknown keys are errors');
  }
});

test('the schema takes what the reader takes: secrets in files, and variables', async () => {
  const { stdout } = await sallyport(['check', '--schema', 'gateway']);
  const validate = compile(stdout);
  const relays = [{ host: 'relay.example.com', control_port: '${PORT}', data_ports: [9352] }];
  const gateway = (connection: object) => ({
    namespace: 'relay.example.com',
    name: 'gateway-1',
    state_dir: 'state',
    relays,
    status: { listen: '127.0.0.1:9363' },
    connections: [{ name: 'shop', listen: '127.0.0.1:1433', ...connection }],
  });
  assert.ok(validate(gateway({ connection_string_file: 'send' })), JSON.stringify(validate.errors));
  assert.ok(validate(gateway({ connection_string: 'Endpoint=…' })), JSON.stringify(validate.errors));
  assert.ok(!validate(gateway({})), 'one of both is needed');
  assert.ok(!validate(gateway({ connection_string: 'Endpoint=…', listen: 7 })));
  const unknown = await sallyport(['check', '--schema', 'postgres']);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /--schema is relay, agent, gateway or managed, not "postgres"/);
});
