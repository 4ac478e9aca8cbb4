import { guardAddress, type GuardSettings, type ManagedSettings } from '../policy/index.ts';
import type { HostPort } from '../runtime/index.ts';
import type { DialFailure } from './dialler.ts';

/** Why an address of a target must not be dialled at this moment, whatever was decided before: guard and managed settings. */
export const dialRefusal =
  (guard: () => GuardSettings, managed: () => ManagedSettings, { host, port }: HostPort) =>
  (address: string): DialFailure | undefined => {
    const verdict = guardAddress(address, port, guard());
    if (!verdict.ok)
      return { reason: 'guard_denied', detail: `${address}: ${verdict.code} ${verdict.detail}` };
    const barred = managed().barsTarget(host, port, address);
    return barred && { reason: 'managed_denied', detail: `${address}: ${barred}` };
  };
