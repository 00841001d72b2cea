// The simulator's clock: real time plus an offset, or frozen. It only moves forward by being told to, and
// everything a provider does by itself (renewals, trial ends, dunning) happens while it is being moved.

export class Clock {
  #offset = 0;
  #frozen = null;

  reset() {
    this.#offset = 0;
    this.#frozen = null;
  }

  // Whole seconds since 1970, the unit of all three providers' wires.
  now() {
    return this.#frozen ?? Math.floor(Date.now() / 1000) + this.#offset;
  }

  set(seconds) {
    if (this.#frozen !== null) this.#frozen = seconds;
    else this.#offset = seconds - Math.floor(Date.now() / 1000);
  }

  freeze(on) {
    if (on) this.#frozen = this.now();
    else if (this.#frozen !== null) {
      const seconds = this.#frozen;
      this.#frozen = null;
      this.set(seconds);
    }
  }

  get frozen() {
    return this.#frozen !== null;
  }
}

const DAY = 86400;

function daysInMonth(year, month) {
  return new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
}

// The n-th date of a schedule, always from the anchor: 31 January + 1 month is 28 February, + 2 is 31 March.
export function addIntervals(anchor, interval, count, n) {
  if (interval === 'day') return anchor + DAY * count * n;
  if (interval === 'week') return anchor + 7 * DAY * count * n;
  const date = new Date(anchor * 1000);
  const months = (interval === 'year' ? 12 : 1) * count * n;
  const index = date.getUTCFullYear() * 12 + date.getUTCMonth() + months;
  const year = Math.floor(index / 12);
  const month = index - year * 12;
  const day = Math.min(date.getUTCDate(), daysInMonth(year, month));
  return Math.floor(Date.UTC(year, month, day, date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()) / 1000);
}

// The half-open period [start, end) of the schedule that holds the given moment.
export function periodAt(anchor, interval, count, moment) {
  const length = { day: DAY, week: 7 * DAY, month: 30.436875 * DAY, year: 365.2425 * DAY }[interval] * count;
  let n = Math.floor((moment - anchor) / length) - 1;
  while (addIntervals(anchor, interval, count, n + 1) <= moment) n++;
  return { start: addIntervals(anchor, interval, count, n), end: addIntervals(anchor, interval, count, n + 1) };
}
