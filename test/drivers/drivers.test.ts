import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missingPrograms, projectRoot } from '../support/command.ts';
import { runOnOwnMachine } from '../support/own-machine.ts';
import { families } from './families.ts';
import type { DriverFamily } from './family.ts';

const DEADLINE_MS = 600_000;

const of = (part: (family: DriverFamily) => Readonly<Record<string, string>> | undefined) =>
  Object.assign({}, ...families.map(part)) as Readonly<Record<string, string>>;

const missingTools = (tools: Readonly<Record<string, string>>): string | false => {
  const missing = Object.entries(tools).filter(([file]) => !existsSync(join(projectRoot, file)));
  return missing.length > 0 && `run ${missing.map(([, tool]) => `node tools/${tool}`).join(' and ')}`;
};

test('real drivers reach real servers with the connection strings of the private network', {
  timeout: DEADLINE_MS,
  skip: missingPrograms(of(({ needs }) => needs)) || missingTools(of(({ tools }) => tools)),
}, async (t) => {
  const inside = fileURLToPath(new URL('./inside.js', import.meta.url));
  const { code, stdout, stderr } = await runOnOwnMachine(t, inside, { deadlineMs: DEADLINE_MS });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^ok 1 - drivers with the connection strings[^]*^# fail 0$/m);
});
