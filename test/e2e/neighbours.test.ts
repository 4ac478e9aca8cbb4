import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runOnOwnMachine } from '../support/own-machine.ts';

const DEADLINE_MS = 300_000;

test("the agent's network reaches nothing but the published target, through whatever entrance", {
  timeout: DEADLINE_MS,
}, async (t) => {
  const inside = fileURLToPath(new URL('./neighbours-inside.js', import.meta.url));
  const { code, stdout, stderr } = await runOnOwnMachine(t, inside, { deadlineMs: DEADLINE_MS });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^ok 1 - neighbours of a published target[^]*^# fail 0$/m);
});
