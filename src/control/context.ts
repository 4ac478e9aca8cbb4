import type { Clock, Logger } from '../runtime/index.ts';
import type { Database } from './database.ts';
import type { Keyring } from './keyring.ts';

/** What the stores work with. */
export interface ControlContext {
  readonly database: Database;
  readonly keyring: Keyring;
  readonly namespace: string;
  readonly publicPort: number | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Channel of all hints; payloads are those that HintPump reads. */
export const CHANNEL = 'sallyport_control';

/** Seconds without a heartbeat after which a node counts as silent, and what it wrote of itself as old. */
export const SILENT_AFTER_S = 12;

/** Word for the namespace where a connection's name may stand; no connection may be called so. */
export const NAMESPACE_SCOPE = 'namespace';
