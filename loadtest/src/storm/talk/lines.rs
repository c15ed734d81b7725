//! What people in conversations say. The server does not see it; whoever watches a storm does, and sees that it goes on.

/// The two speak in turns, and begin again at the end.
const LINES: [&str; 16] = [
    "Did you feel that?",
    "Yes! The whole house shook.",
    "Are you all right?",
    "I am. A shelf came down, nothing else.",
    "Where are the children?",
    "With me, under the table.",
    "Stay there for a while, there may be another one.",
    "We will. And you?",
    "In the street, everybody came out.",
    "Is anybody hurt?",
    "Not here. Have you heard from mother?",
    "She wrote a minute ago, she is fine.",
    "Good. Everybody is on the phone now.",
    "And still this arrives at once.",
    "Write to me every few minutes, will you?",
    "I will. Take care.",
];

/// What is said in this turn. Conversations do not all say the same at a time.
pub fn line(conversation: u32, turn: u32) -> &'static str {
    let pairs = LINES.len() / 2;
    let begins = 2 * (conversation as usize % pairs);
    LINES.get((begins + turn as usize) % LINES.len()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_speaker_begins_and_they_go_on_for_ever() {
        for conversation in [0, 7, 8, u32::MAX] {
            let begins = LINES.iter().position(|said| *said == line(conversation, 0)).unwrap();
            assert!(begins.is_multiple_of(2), "{conversation}");
            assert_eq!(line(conversation, 16), line(conversation, 0));
        }
        assert!(LINES.iter().all(|said| said.is_ascii() && said.trim() == *said));
    }
}
