import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { AuditLog } from '../audit/index.ts';
import type { PolicyHost } from '../policy/index.ts';
import {
  type Clock,
  foreignCodeOf,
  type Logger,
  makePrivateDirectory,
  messageOf,
  type Timer,
  writeFileAtomically,
} from '../runtime/index.ts';

const FILE_NAME = 'policy.activate.json';
/** How often an agent that holds an activation looks whether it is confirmed. */
const LOOK_PERIOD_MS = 500;

const requestSchema = z.object({
  v: z.literal(1),
  id: z.string(),
  reason: z.string(),
  asked_at: z.string(),
});
type Request = z.output<typeof requestSchema>;

/**
 * Confirms a held activation for the agent of this state directory, which only its own user may write. The agent looks
 * for it while it holds one.
 */
export const askToActivate = (stateDir: string, id: string, reason: string, clock: Clock): void => {
  makePrivateDirectory(stateDir);
  const request: Request = { v: 1, id, reason, asked_at: new Date(clock.nowMs()).toISOString() };
  writeFileAtomically(join(stateDir, FILE_NAME), `${JSON.stringify(request)}\n`);
};

export interface ActivateRequestsDeps {
  readonly host: PolicyHost;
  readonly audit: Pick<AuditLog, 'record'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stateDir: string;
  readonly subject: { readonly namespace: string; readonly agent: string };
}

/** Activates what is held once an operator confirmed exactly that; the trail has who could and why first. */
export class ActivateRequests {
  readonly #deps: ActivateRequestsDeps;
  readonly #path: string;
  readonly #timer: Timer;
  #isBusy = false;

  constructor(deps: ActivateRequestsDeps) {
    this.#deps = deps;
    this.#path = join(deps.stateDir, FILE_NAME);
    // What was asked of an earlier process was about streams that are gone.
    rmSync(this.#path, { force: true });
    this.#timer = deps.clock.every(LOOK_PERIOD_MS, () => void this.#look()).unref();
  }

  close(): void {
    this.#timer.cancel();
  }

  async #look(): Promise<void> {
    const { host, logger } = this.#deps;
    const { held } = host.status();
    if (held === undefined || this.#isBusy) return;
    this.#isBusy = true;
    try {
      const request = this.#read();
      if (request === undefined) return;
      rmSync(this.#path, { force: true });
      if (request.id === held.id) await this.#activate(request);
      else logger.warn({ asked: request.id, held: held.id }, 'another activation is held than was confirmed');
    } catch (error) {
      logger.error({ path: this.#path, cause: messageOf(error) }, 'the held activation was not confirmed');
    } finally {
      this.#isBusy = false;
    }
  }

  async #activate({ id, reason, asked_at }: Request): Promise<void> {
    const { host, audit, logger, subject } = this.#deps;
    const { held } = host.status();
    await audit.record({
      type: 'admin.action',
      subject: { ...subject, actor: `operator of ${subject.agent}` },
      data: { action: 'policy.activated', detail: { ...held, asked_at }, reason },
    });
    const isActive = await host.activateHeld(id);
    logger.warn({ id, reason, active: isActive }, 'held activation confirmed by an operator');
  }

  #read(): Request | undefined {
    try {
      return requestSchema.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch (error) {
      if (foreignCodeOf(error) === 'ENOENT') return undefined;
      rmSync(this.#path, { force: true });
      throw error;
    }
  }
}
