import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectRoot, runCommand } from '../support/command.ts';
import { startPostgres } from '../support/postgres.ts';
import { apiFixture } from './api-fixture.ts';

const PROGRAM = join(projectRoot, '.tools/python/bin/schemathesis');
const missing = existsSync(PROGRAM)
  ? false
  : 'missing schemathesis (node tools/build-python-tools.mjs installs it)';
/** Generated calls of an operation: an owner may do all; of the others, what they may not is refused the same way. */
const EXAMPLES = { owner: '40', operator: '10', auditor: '10' } as const;
const SEED = '20261126';
const DEADLINE_MS = 240_000;

/**
 * What must hold for every answer to anything at all. Not `ignored_auth`: it takes 429 for an answer, and so many
 * calls without a token get that; test/control/authentication.test.ts asks every operation without one.
 */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
];

for (const role of ['owner', 'operator', 'auditor'] as const)
  test(`no generated call of an ${role} makes a 5xx or an answer that the OpenAPI document does not describe`, {
    skip: missing,
    timeout: DEADLINE_MS,
  }, async (t) => {
    const postgres = await startPostgres();
    t.after(() => postgres.stop());
    const { api, control } = await apiFixture(t, postgres);
    control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
    await api.create('orders');
    const made = await api.call('post', '/tokens', { label: 'generated', role });
    const { token } = made.body as { token: string };
    const { code, stdout, stderr } = await runCommand(
      PROGRAM,
      [
        'run',
        `${api.url}/api/v1/openapi.json`,
        '--header',
        `Authorization: Bearer ${token}`,
        '--checks',
        CHECKS.join(','),
        '--phases',
        'examples,coverage,fuzzing',
        '--max-examples',
        EXAMPLES[role],
        '--seed',
        SEED,
        '--workers',
        '1',
        '--no-color',
      ],
      { deadlineMs: DEADLINE_MS },
    );
    assert.equal(code, 0, `${stdout.slice(-8_000)}\n${stderr.slice(-2_000)}`);
    assert.match(stdout, /\d+ generated/);
  });
