import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readManagedFile } from '../../../src/policy/index.ts';
import { requireSafePlace } from '../../../src/policy/managed/managed-file.ts';
import { managedPlace, OWNER } from '../../support/managed-place.ts';

const refusedAs = (message: RegExp): object => ({ code: 'ERR_POLICY_MANAGED', message });

test('the bytes of a file that only its owner can write are read, with their digest', async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n');
  assert.deepEqual(await readManagedFile(place.location), {
    text: 'connections: enabled\n',
    sha256: createHash('sha256').update('connections: enabled\n').digest('hex'),
  });
});

test('no file, or no directory, is no settings', async (t) => {
  const place = managedPlace(t);
  assert.equal(await readManagedFile(place.location), undefined);
  const path = join(place.directory, 'nowhere', 'managed.yaml');
  assert.equal(await readManagedFile({ path, owner: OWNER }), undefined);
  await requireSafePlace({ path, owner: OWNER });
});

test('a file of another user is refused', async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n');
  const { path } = place.location;
  await assert.rejects(
    readManagedFile({ path, owner: OWNER + 1 }),
    refusedAs(new RegExp(`belongs to user ${OWNER}, not to`)),
  );
});

test('a file that the group or others may write is refused', async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n', 0o664);
  await assert.rejects(readManagedFile(place.location), refusedAs(/managed\.yaml is writable by its group/));
  place.put('connections: enabled\n', 0o646);
  await assert.rejects(readManagedFile(place.location), refusedAs(/managed\.yaml is writable by others/));
  place.put('connections: enabled\n', 0o1666);
  await assert.rejects(readManagedFile(place.location), refusedAs(/sticky/));
});

test('a directory that others may write is refused, for another file could be put there', async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n');
  chmodSync(place.directory, 0o775);
  await assert.rejects(readManagedFile(place.location), refusedAs(/sallyport is writable by its group/));
  chmodSync(place.directory, 0o757);
  await assert.rejects(requireSafePlace(place.location), refusedAs(/sallyport is writable by others/));
  // A sticky directory protects its entries, as /tmp does those of these tests.
  chmodSync(place.directory, 0o1777);
  assert.ok(await readManagedFile(place.location));
});

test('a symbolic link is refused, as the file and as a directory above it', async (t) => {
  const place = managedPlace(t);
  const other = join(place.directory, 'other.yaml');
  writeFileSync(other, 'connections: enabled\n', { mode: 0o644 });
  symlinkSync(other, place.location.path);
  await assert.rejects(readManagedFile(place.location), refusedAs(/is a symbolic link/));

  const real = join(place.directory, 'real');
  mkdirSync(real, { mode: 0o755 });
  writeFileSync(join(real, 'managed.yaml'), 'connections: enabled\n', { mode: 0o644 });
  symlinkSync(real, join(place.directory, 'linked'));
  const path = join(place.directory, 'linked', 'managed.yaml');
  await assert.rejects(readManagedFile({ path, owner: OWNER }), refusedAs(/linked is not a directory/));
});

test('a dangling symbolic link is not the same as no file', async (t) => {
  const place = managedPlace(t);
  symlinkSync(join(place.directory, 'gone'), place.location.path);
  await assert.rejects(readManagedFile(place.location), refusedAs(/is a symbolic link/));
});

test('a named pipe holds nobody up, and a directory is no file', async (t) => {
  const place = managedPlace(t);
  assert.equal(spawnSync('sh', ['-c', 'mkfifo -m 644 "$0"', place.location.path]).status, 0);
  await assert.rejects(readManagedFile(place.location), refusedAs(/is not a regular file/));
  renameSync(place.location.path, `${place.location.path}.pipe`);
  mkdirSync(place.location.path, { mode: 0o755 });
  await assert.rejects(readManagedFile(place.location), refusedAs(/is not a regular file|EISDIR/));
});

test('what is too large or no UTF-8 is refused', async (t) => {
  const place = managedPlace(t);
  place.put('# large\n');
  truncateSync(place.location.path, 1024 * 1024 + 1);
  await assert.rejects(readManagedFile(place.location), refusedAs(/has 1048577 bytes, .* at most 1048576/));
  place.put('');
  writeFileSync(place.location.path, Buffer.from([0x63, 0xff, 0xfe]));
  await assert.rejects(readManagedFile(place.location), refusedAs(/is not UTF-8/));
});
