// The first file of a worker thread or process where TypeScript runs unbuilt (tests). The loader does not reach from the main
// thread into workers, so each registers its own before it imports the real file, whose URL is the last argument.
import { register } from 'tsx/esm/api';

register();
// Not awaited: a thread that is terminated inside a module with top-level await takes the whole process down with it
// (V8 "Check failed: (location_) != nullptr"). A failed import still ends the thread with an error.
void import(process.argv.at(-1));
