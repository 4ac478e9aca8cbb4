import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { secondVerifierMissing } from '../audit/both-verifiers.ts';
import { projectRoot, runCommand } from '../support/command.ts';
import { PYTHON } from '../support/python.ts';

test("the second verifier's own tests pass, on the vectors of the page", {
  skip: secondVerifierMissing,
}, async () => {
  const { code, stderr } = await runCommand(
    PYTHON,
    ['-B', '-m', 'unittest', 'discover', '-t', '.', '-s', 'tests'],
    { cwd: join(projectRoot, 'verifier') },
  );
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^Ran [1-9]\d+ tests/m);
});
