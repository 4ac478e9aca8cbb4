import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MALLOC_SETTINGS, NODE_FLAGS } from '../../src/runtime/index.ts';

test('the program started by hand and the processes of up get their memory the same way', () => {
  const first = readFileSync(new URL('../../bin/sallyport', import.meta.url), 'utf8').split('\n', 1)[0];
  const settings = Object.entries(MALLOC_SETTINGS).map(([name, value]) => `${name}=${value}`);
  assert.equal(first, ['#!/usr/bin/env -S', ...settings, 'node', ...NODE_FLAGS].join(' '));
});
