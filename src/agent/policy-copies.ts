import type { PolicyArtifact, PolicyStore } from '../audit/index.ts';
import type { ActiveBundle, PolicyHost } from '../policy/index.ts';

const artifactsOf = ({
  sha256,
  revision,
  sequence,
  catalog,
  bytes,
  grants,
}: ActiveBundle): PolicyArtifact[] => [
  { kind: 'bundle', sha256, revision, sequence, catalog, content: bytes },
  ...(grants === undefined
    ? []
    : [{ kind: 'grants' as const, sha256: grants.sha256, content: Buffer.from(grants.text) }]),
];

/**
 * Hands what decides, now and after every activation, to the store that takes it to the audit database, so that its
 * decisions can be made again there. No decision waits for it.
 */
export const keepCopies = (host: PolicyHost, store: Pick<PolicyStore, 'keep'>): void => {
  if (host.active !== undefined) void store.keep(artifactsOf(host.active));
  host.onActivated((active) => void store.keep(artifactsOf(active)));
};
