import type { ConnectionChange, Revocation, RevocationFeed } from '../../src/control/index.ts';

const DEADLINE_MS = 20_000;

const within = <T>(what: string, start: (resolve: (value: T) => void) => void): Promise<T> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`${what} did not happen within ${DEADLINE_MS} ms`)),
      DEADLINE_MS,
    );
    start((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });

/** Resolves when the feed reports this key dead; to be called before that can happen. Enforces nothing. */
export const revoked = (feed: RevocationFeed, keyId: string): Promise<Revocation> =>
  within(`revocation of ${keyId}`, (resolve) =>
    feed.onRevoked((revocation) => {
      if (revocation.key_id === keyId) resolve(revocation);
      return undefined;
    }),
  );

export const connectionChanged = (
  feed: RevocationFeed,
  name: string,
  change: ConnectionChange['change'],
): Promise<ConnectionChange> =>
  within(`${name} ${change}`, (resolve) =>
    feed.onConnectionChanged((event) => {
      if (event.name === name && event.change === change) resolve(event);
    }),
  );

/** Resolves when a condition holds, looked at on every turn that the event loop is idle. */
export const eventually = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const endMs = performance.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`${what} did not happen within ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setImmediate(resolve));
  }
};
