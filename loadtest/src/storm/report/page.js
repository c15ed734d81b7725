// Shows the numbers at the point of time under the pointer, or where the arrow keys have moved to. Without it nothing is lost but this.
for (const figure of document.querySelectorAll('.chart')) {
  const source = figure.querySelector('script[type="application/json"]');
  if (!source) continue;
  const data = JSON.parse(source.textContent);
  const points = data.begins_s.length;
  if (!points) continue;
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  figure.append(tip);
  const number = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });
  const say = (value, unit) => value === null ? 'not measured' : typeof value === 'number' ? number.format(value) + (unit.startsWith('/') ? unit : ' ' + unit) : value;
  for (const svg of figure.querySelectorAll('svg')) {
    const left = +svg.dataset.left, right = +svg.dataset.right, cross = svg.querySelector('.cross');
    let at = 0;
    const hide = () => { tip.hidden = true; cross.style.visibility = 'hidden'; };
    const show = () => {
      const end = at + 1 < points ? data.begins_s[at + 1] : data.to_s;
      const middle = (data.begins_s[at] + end) / 2;
      const x = left + (right - left) * (middle - data.from_s) / (data.to_s - data.from_s);
      cross.setAttribute('x1', x);
      cross.setAttribute('x2', x);
      cross.style.visibility = 'visible';
      tip.replaceChildren();
      const head = document.createElement('b');
      head.textContent = data.begins_s[at] + ' s';
      tip.append(head);
      for (const row of data.rows) {
        const line = document.createElement('span'), name = document.createElement('span'), value = document.createElement('span');
        name.textContent = row.name;
        value.textContent = say(row.values[at] ?? null, row.unit);
        line.append(name, value);
        tip.append(line);
      }
      tip.hidden = false;
      const box = svg.getBoundingClientRect(), around = figure.getBoundingClientRect();
      const px = box.left - around.left + x * box.width / svg.viewBox.baseVal.width;
      const beside = px + 14 + tip.offsetWidth > around.width ? px - 14 - tip.offsetWidth : px + 14;
      tip.style.left = Math.max(4, Math.min(beside, around.width - tip.offsetWidth - 4)) + 'px';
      tip.style.top = box.top - around.top + 30 + 'px';
    };
    svg.addEventListener('pointermove', event => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const time = data.from_s + (x - left) / (right - left) * (data.to_s - data.from_s);
      const next = data.begins_s.findIndex(begin => begin > time);
      at = Math.max(0, next < 0 ? points - 1 : next - 1);
      show();
    });
    svg.addEventListener('pointerleave', hide);
    svg.addEventListener('blur', hide);
    svg.addEventListener('keydown', event => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -points, End: points }[event.key];
      if (event.key === 'Escape') hide();
      if (!step) return;
      event.preventDefault();
      at = Math.max(0, Math.min(points - 1, at + step));
      show();
    });
  }
}
