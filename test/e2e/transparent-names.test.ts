import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runOnOwnMachine } from '../support/own-machine.ts';

const DEADLINE_MS = 300_000;

test('applications keep host name, port and certificate, on a machine that the agent shares', {
  timeout: DEADLINE_MS,
}, async (t) => {
  const inside = fileURLToPath(new URL('./transparent-names-inside.js', import.meta.url));
  const { code, stdout, stderr } = await runOnOwnMachine(t, inside, { deadlineMs: DEADLINE_MS });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^# pass 1$/m);
});
