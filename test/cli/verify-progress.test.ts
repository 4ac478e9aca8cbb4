import assert from 'node:assert/strict';
import { test } from 'node:test';
import { durationText, progressText, verifyProgress } from '../../src/cli/audit/verify-progress.ts';
import type { Output } from '../../src/cli/output.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('progress says how much is done, how fast it goes and what is left', () => {
  assert.equal(
    progressText({ events: 30_000, total: 300_000 }, 1_500),
    '30,000 of 300,000 events (10 %), 20,000/s, 14 s left',
  );
  assert.equal(progressText({ events: 0, total: 10 }, 0), '0 of 10 events (0 %)');
  assert.equal(progressText({ events: 0, total: 0 }, 10), '0 of 0 events (100 %)');
  assert.deepEqual(
    [durationText(-1), durationText(59_400), durationText(185_000), durationText(7_620_000)],
    ['0 s', '59 s', '3 min 5 s', '2 h 7 min'],
  );
});

test('without a terminal there is a line every few seconds, and only when it was asked for', () => {
  const said: string[] = [];
  const output = {
    showsProgress: false,
    note: (text: string) => said.push(`note ${text}`),
    progress: (text: string | undefined) => said.push(`progress ${text}`),
  } as unknown as Output;
  const clock = new ManualClock();
  const tell = verifyProgress(output, { lines: true, clock });
  tell({ events: 1, total: 100 });
  clock.advance(5_000);
  tell({ events: 50, total: 100 });
  tell({ events: 51, total: 100 });
  assert.deepEqual(said, ['note 50 of 100 events (50 %), 10/s, 5 s left']);
  const quiet = verifyProgress(output, { lines: false, clock });
  clock.advance(5_000);
  quiet({ events: 50, total: 100 });
  assert.match(said[1] ?? '', /^progress 50 of 100/);
});
