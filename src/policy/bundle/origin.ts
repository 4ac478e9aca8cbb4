import { resolve } from 'node:path';
import type { Clock, Logger } from '../../runtime/index.ts';
import { Freshness } from './freshness.ts';
import { LastGood } from './last-good.ts';
import { SequenceGuard } from './sequence-guard.ts';
import { FileWatch } from './watch.ts';

/** Where bundles come from. */
export interface OriginOptions {
  /** A file that is watched, or a source of this name that offers what it has. */
  readonly source: { readonly file: string } | { readonly name: string };
  /** Everything is denied when the source has not confirmed its bundle for this long; default: no such limit. */
  readonly maxAgeMs?: number;
  /** Grants of their own (YAML or JSON), in place of the bundle's `data.sallyport.grants`; reloaded live. */
  readonly dataFile?: string;
}

export interface OriginDeps {
  readonly stateDir: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onFileChange: () => void;
  readonly onFlip: () => void;
}

/** One source of bundles with what is known of it: its last good bundle, its sequence, how long it is silent. */
export class Origin {
  readonly source: OriginOptions['source'];
  readonly dataFile: string | undefined;
  /** The path of the bundle's file, or the name of its source. */
  readonly name: string;
  readonly lastGood: LastGood;
  /** Kept over restarts by the last good bundle. */
  readonly sequences = new SequenceGuard();
  readonly freshness: Freshness;
  readonly watch: FileWatch;

  constructor({ source, dataFile, maxAgeMs }: OriginOptions, deps: OriginDeps) {
    const { stateDir, clock, logger, onFileChange, onFlip } = deps;
    this.source = source;
    this.dataFile = dataFile;
    this.name = 'file' in source ? resolve(source.file) : source.name;
    this.lastGood = new LastGood(stateDir, this.name, logger);
    this.freshness = new Freshness(clock, maxAgeMs, onFlip);
    const bundleFiles = 'file' in source ? [source.file] : [];
    const files = dataFile === undefined ? bundleFiles : [...bundleFiles, dataFile];
    this.watch = new FileWatch(files, clock, onFileChange);
  }

  close(): void {
    this.watch.close();
    this.freshness.close();
  }
}
