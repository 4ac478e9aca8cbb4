import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heldMeans } from '../../src/cli/held-text.ts';

test('a grants file that is held says that whoever was removed from it still gets new streams', () => {
  assert.match(
    heldMeans({ sha256: 'a' }, { sha256: 'a' }),
    /grants file .*removed .*still has access.* new streams/,
  );
  for (const active of [{ sha256: 'b' }, undefined]) {
    const text = heldMeans({ sha256: 'a' }, active);
    assert.match(text, /the bundle before decides, about new streams too/);
    assert.doesNotMatch(text, /grants/);
  }
});
