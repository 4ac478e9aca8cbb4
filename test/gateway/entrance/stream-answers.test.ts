import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { answerOf } from '../../../src/gateway/entrance/stream-answers.ts';
import { CLOSE_REASON, type CloseReason } from '../../../src/runtime/index.ts';
import { projectRoot } from '../../support/command.ts';

const answer = (reason: CloseReason, isDialRefused = false): string => {
  const refused = { reason, streamId: 'x', detail: undefined, decisionId: undefined, isDialRefused };
  const { socks, http } = answerOf(refused);
  return `${socks} ${http}`;
};

test('docs/entrances.md has the answer to every reason, once, as it is given', () => {
  const page = readFileSync(join(projectRoot, 'docs/entrances.md'), 'utf8');
  const section = page.slice(page.indexOf('## Answers to streams'), page.indexOf('## Users'));
  const documented = new Map<string, string>();
  for (const [, socks, http, reasons = ''] of section.matchAll(/^\| (\d) [a-z ]+\| (\d{3}) \| (.+) \|$/gm)) {
    if (reasons.includes('host refused')) {
      assert.equal(answer('target_unreachable', true), `${socks} ${http}`);
      continue;
    }
    for (const [, reason = ''] of reasons.matchAll(/`(\w+)`/g)) {
      assert.ok(!documented.has(reason), `${reason} is there twice`);
      documented.set(reason, `${socks} ${http}`);
    }
  }
  const given = Object.keys(CLOSE_REASON).map((reason) => [reason, answer(reason as CloseReason)] as const);
  assert.deepEqual(Object.fromEntries([...documented].sort()), Object.fromEntries([...given].sort()));
});

test('that the dial was refused says nothing of another reason', () => {
  assert.equal(answer('policy_denied', true), answer('policy_denied'));
});
