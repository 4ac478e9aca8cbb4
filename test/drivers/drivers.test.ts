import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missingPrograms } from '../support/command.ts';
import { runOnOwnMachine } from '../support/own-machine.ts';
import { families } from './families.ts';

const DEADLINE_MS = 600_000;

test('real drivers reach real servers with the connection strings of the private network', {
  timeout: DEADLINE_MS,
  skip:
    missingPrograms(Object.assign({}, ...families.map(({ needs }) => needs)) as Record<string, string>) ||
    (families.find(({ missing = false }) => missing !== false)?.missing ?? false),
}, async (t) => {
  const inside = fileURLToPath(new URL('./inside.js', import.meta.url));
  const { code, stdout, stderr } = await runOnOwnMachine(t, inside, { deadlineMs: DEADLINE_MS });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^ok 1 - drivers with the connection strings[^]*^# fail 0$/m);
});
