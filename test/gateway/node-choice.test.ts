import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeChoice } from '../../src/gateway/node-choice.ts';
import { ManualClock } from '../support/manual-clock.ts';

const NODES = ['n1', 'n2', 'n3'];
const none = (): number => 0;

/** The fractions in turn, then from the beginning. */
const fractions = (...values: number[]): (() => number) => {
  let at = 0;
  return () => values[at++ % values.length] ?? 0;
};

test('among equals the order is random; a node with fewer links comes first', () => {
  const choice = new NodeChoice(new ManualClock(), fractions(0.9, 0.1, 0.5));
  assert.deepEqual(choice.order(NODES, none), ['n2', 'n3', 'n1']);
  assert.deepEqual(
    choice.order(NODES, (node) => (node === 'n1' ? 0 : 1)),
    ['n1', 'n2', 'n3'],
  );
});

test('a silent node comes last whatever its links, until something is heard from it', () => {
  for (const heard of [
    (choice: NodeChoice) => choice.heard('n1'),
    (choice: NodeChoice) => choice.health('n1', true),
    (choice: NodeChoice) => choice.gone('n1'),
  ]) {
    const choice = new NodeChoice(new ManualClock(), none);
    for (const node of NODES) choice.health(node, true);
    choice.silent('n1');
    assert.deepEqual(
      choice.order(NODES, (node) => (node === 'n1' ? 0 : 1)),
      ['n2', 'n3', 'n1'],
    );
    heard(choice);
    assert.deepEqual(choice.order(NODES, none), NODES);
  }
});

test('a fenced node comes after those that are well and before the silent ones', () => {
  const choice = new NodeChoice(new ManualClock(), none);
  choice.silent('n1');
  choice.health('n2', false);
  assert.deepEqual(choice.order(NODES, none), ['n3', 'n2', 'n1']);
  assert.deepEqual(choice.healthy(), []);
  choice.health('n3', true);
  assert.deepEqual(choice.healthy(), ['n3']);
});

test('what is left of a node that stops counts down, and is forgotten with its control link', () => {
  const clock = new ManualClock();
  const choice = new NodeChoice(clock, none);
  assert.equal(choice.leavesInMs('n1'), undefined);
  choice.leaving('n1', 30_000);
  clock.advance(10_000);
  assert.equal(choice.leavesInMs('n1'), 20_000);
  clock.advance(30_000);
  assert.equal(choice.leavesInMs('n1'), 0);
  choice.gone('n1');
  assert.equal(choice.leavesInMs('n1'), undefined);
});
