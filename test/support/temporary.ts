import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Where a test registers what it has to close; node:test's context, or a suite's own list. */
export type Closer = Pick<TestContext, 'after'>;

/** A directory that other users may pass through and that goes away with the test. */
export const temporaryDirectory = (t: Closer, name = 'test'): string => {
  const directory = mkdtempSync(join(tmpdir(), `sallyport-${name}-`));
  chmodSync(directory, 0o711);
  t.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }));
  return directory;
};
