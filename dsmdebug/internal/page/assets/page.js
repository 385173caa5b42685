// SPDX-License-Identifier: MIT

// Keeps the page live. Without it the page shows what was so when it was loaded.
"use strict";
(() => {
	const retryAfter = 15_000; // milliseconds
	const connection = document.getElementById("connection");
	const pause = document.getElementById("pause");
	const field = document.getElementById("field");
	const fieldDark = document.getElementById("field-dark");
	const summary = document.getElementById("summary");
	let source = null;
	let timer = 0;
	let paused = false;
	const pending = new Map(); // the HTML of parts, by their ids, that is not shown yet

	function say(text) {
		if (connection.textContent !== text) {
			connection.textContent = text;
		}
	}

	// A part in which the user has selected text waits until nothing of it is selected.
	function isSelected(part) {
		const selection = document.getSelection();
		return selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
	}

	function show(message) {
		const event = JSON.parse(message.data);
		for (const [id, html] of Object.entries(event.parts ?? {})) {
			pending.set(id, html);
		}
		for (const [id, html] of pending) {
			const part = document.getElementById(id);
			if (part === null) {
				pending.delete(id); // of a later version of the server
			} else if (!isSelected(part)) {
				part.innerHTML = html; // the server has escaped what comes from clients, and no script runs from here
				pending.delete(id);
			}
		}
		if (event.field) {
			fieldDark.srcset = `field-dark.png?${event.field.number}`;
			field.src = `field-light.png?${event.field.number}`;
			field.width = event.field.width;
			field.height = event.field.height;
			field.alt = event.field.alt;
		}
		if (event.summary) {
			summary.textContent = event.summary;
		}
		say("Live.");
	}

	function close() {
		clearTimeout(timer);
		source?.close();
		source = null;
	}

	function open() {
		close();
		if (paused || document.hidden) {
			return;
		}
		source = new EventSource("events");
		source.onmessage = show;
		source.onerror = () => {
			if (source.readyState === EventSource.CLOSED) {
				say("Not live: too many viewers, or the server has ended. Trying again from time to time.");
				timer = setTimeout(open, retryAfter);
			} else {
				say("Connection lost. Trying again.");
			}
		};
	}

	pause.hidden = false;
	pause.addEventListener("click", () => {
		paused = !paused;
		pause.textContent = paused ? "Resume" : "Pause";
		if (paused) {
			say("Paused.");
		} else {
			say("Connecting.");
		}
		open();
	});
	document.addEventListener("visibilitychange", open);
	window.addEventListener("pagehide", close);
	window.addEventListener("pageshow", (event) => {
		if (event.persisted) {
			open();
		}
	});
	open();
})();
