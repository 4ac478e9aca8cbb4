import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { MANAGED_CONFIRM_MS } from '../../../src/policy/managed/managed-host.ts';
import { ManagedHost } from '../../../src/policy/index.ts';
import { type Clock, silentLogger, systemClock, type Timer } from '../../../src/runtime/index.ts';
import { eventually } from '../../support/eventually.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { type ManagedPlace, managedPlace } from '../../support/managed-place.ts';

const open = async (
  t: TestContext,
  place: ManagedPlace,
  clock: Clock = systemClock,
): Promise<ManagedHost> => {
  const host = await ManagedHost.open({ location: place.location, clock, logger: silentLogger });
  t.after(() => host.close());
  return host;
};

/** What was told, in order. */
const heard = (host: ManagedHost): string[] => {
  const lines: string[] = [];
  host.onChanged(({ before, after }) => lines.push(`${before.kind} → ${after.kind}`));
  host.onRefused(({ message }) => lines.push(`refused ${message}`));
  return lines;
};

test('without a file nothing is restricted, and the status says so', async (t) => {
  const host = await open(t, managedPlace(t));
  assert.equal(host.settings.kind, 'absent');
  assert.deepEqual(host.settings.input, { require_proof: false });
  assert.equal(host.settings.barsRelay('any.example'), undefined);
  assert.equal(host.settings.barsTarget('any.example', 1, '10.0.0.1'), undefined);
  assert.equal(host.status().state, 'absent');
  assert.equal(host.status().refused, undefined);
});

test('a file that is refused at the start allows nothing, until it is put right', async (t) => {
  const place = managedPlace(t);
  place.put('designated: [10.0.0.0/8:5432]\n', 0o664);
  const host = await open(t, place);
  assert.equal(host.settings.kind, 'refused');
  assert.equal(host.settings.barsAll(), 'settings_refused');
  assert.equal(host.settings.barsTarget('db', 5432, '10.0.0.1'), 'settings_refused');
  assert.equal(host.settings.barsRelay('relay.example'), 'settings_refused');
  assert.match(host.status().refused?.message ?? '', /writable by its group/);
  chmodSync(place.location.path, 0o644);
  await host.reload();
  assert.equal(host.settings.kind, 'in_force');
  assert.equal(host.settings.barsTarget('db', 5432, '10.0.0.1'), undefined);
  assert.equal(host.status().refused, undefined);
});

test('a file that is refused where none was before allows nothing', async (t) => {
  const place = managedPlace(t);
  const host = await open(t, place);
  const lines = heard(host);
  place.put('conections: disabled\n');
  await host.reload();
  assert.equal(host.settings.barsAll(), 'settings_refused');
  assert.equal(host.generation, 1);
  assert.match(lines[0] ?? '', /refused .*did you mean connections/);
  assert.equal(lines[1], 'absent → refused');
  place.remove();
  await host.reload();
  assert.equal(host.settings.kind, 'absent');
});

test('a refused file leaves the settings before it in force, and nothing wider', async (t) => {
  const place = managedPlace(t);
  place.put('designated: [10.0.0.0/8:5432]\n');
  const host = await open(t, place);
  const { sha256 } = host.settings;
  const generation = host.generation;
  place.put('designated: [10.0.0.0/8:5432, 0.0.0.0/0:5432]\n', 0o666);
  await host.reload();
  assert.match(host.status().refused?.message ?? '', /writable by/);
  assert.equal(host.settings.sha256, sha256);
  assert.equal(host.generation, generation);
  assert.equal(host.settings.barsTarget('db', 5432, '192.0.2.1'), 'not_designated');
});

test('settings that hold do not end because somebody else took the file away', async (t) => {
  const place = managedPlace(t);
  place.put('connections: disabled\n');
  const host = await open(t, place);
  chmodSync(place.directory, 0o777);
  place.remove();
  await host.reload();
  assert.equal(host.settings.barsAll(), 'connections_disabled');
  assert.match(host.status().refused?.message ?? '', /sallyport is writable by/);
  // Nobody but the owner can reach into it: the file's absence is the owner's will.
  chmodSync(place.directory, 0o755);
  await host.reload();
  assert.equal(host.settings.kind, 'absent');
});

test('a changed file is taken by itself, replaced, written in place and removed', async (t) => {
  const place = managedPlace(t);
  const host = await open(t, place);
  const lines = heard(host);
  place.put('connections: disabled\n');
  await eventually('the new file holds', () => (host.settings.barsAll() ? true : undefined));
  place.writeInPlace('connections: enabled\n');
  await eventually('the rewritten file holds', () => (host.settings.barsAll() ? undefined : true));
  place.remove();
  await eventually('none holds', () => (host.settings.kind === 'absent' ? true : undefined));
  assert.deepEqual(lines, ['absent → in_force', 'in_force → in_force', 'in_force → absent']);
  assert.equal(host.generation, 3);
});

test('a change of mode or owner alone is noticed', async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n');
  const host = await open(t, place);
  chmodSync(place.location.path, 0o666);
  await eventually('it is refused', () => (host.status().refused ? true : undefined));
  assert.equal(host.settings.kind, 'in_force');
});

/** Tells how often a change was put off to be looked at again. */
class CountingClock extends ManualClock {
  postponed = 0;

  override after(delayMs: number, call: () => void): Timer {
    if (delayMs === MANAGED_CONFIRM_MS) this.postponed += 1;
    return super.after(delayMs, call);
  }
}

test('half of a file is not taken for the whole, however slowly it is written', async (t) => {
  const place = managedPlace(t);
  const whole = 'connections: enabled\ndesignated: [10.0.0.0/8:5432]\n';
  place.put(whole);
  const clock = new CountingClock();
  const host = await open(t, place, clock);
  const lines = heard(host);
  // Each prefix is valid and would designate everything.
  place.writeInPlace('connections: enabled\n');
  await eventually('the first part is seen', () => {
    clock.advance(100);
    return clock.postponed > 0 ? true : undefined;
  });
  const { postponed } = clock;
  place.writeInPlace('connections: enabled\n# the targets\n');
  clock.advance(MANAGED_CONFIRM_MS);
  await eventually('the second part is seen', () =>
    clock.postponed > postponed || lines.length > 0 ? true : undefined,
  );
  assert.deepEqual(lines, []);
  place.writeInPlace(`${whole}# finished\n`);
  await eventually('the whole is taken', () => {
    clock.advance(100);
    return lines.length > 0 ? true : undefined;
  });
  assert.deepEqual(lines, ['in_force → in_force']);
  assert.equal(host.settings.barsTarget('db', 5432, '192.0.2.1'), 'not_designated');
});

test("the owner's word is taken at once, and the same file again is no change", async (t) => {
  const place = managedPlace(t);
  place.put('connections: disabled\n');
  const host = await open(t, place, new ManualClock());
  const lines = heard(host);
  const { generation } = host;
  place.put('connections: disabled\n');
  await host.reload();
  assert.equal(host.generation, generation);
  place.put('connections: enabled\n');
  await host.reload();
  assert.deepEqual(lines, ['in_force → in_force']);
  assert.equal(host.generation, generation + 1);
});
