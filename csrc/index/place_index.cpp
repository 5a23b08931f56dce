#include "index/place_index.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "rows/normalize.hpp"

namespace vpr {
namespace {

// The middle of the descriptors is taken when there are so many, and again each time there are so many times more; and
// kept unless it has moved by this share of their spread.
constexpr std::size_t kFirstCentred = 64;
constexpr std::size_t kFirstCentredCodes = 1024;  // of codes alone, once and for all
constexpr std::size_t kGrowth = 4;
constexpr double kMoved = 0.2;

// Rows that lie this many spreads from the middle are clipped much. When they are this share, it is taken anew at once.
constexpr double kWide = 2.5;
constexpr double kWideShare = 0.02;

constexpr std::size_t kBuildSlice = 16;  // rows that a build inserts before others may change the index

/// Says which thread builds, as long as it does.
class BuildingThread {
   public:
    explicit BuildingThread(std::atomic<std::thread::id>& thread) : thread_(thread) {
        thread_ = std::this_thread::get_id();
    }
    ~BuildingThread() { thread_ = std::thread::id(); }
    BuildingThread(const BuildingThread&) = delete;
    BuildingThread& operator=(const BuildingThread&) = delete;

   private:
    std::atomic<std::thread::id>& thread_;
};

std::invalid_argument bad_id(std::int64_t id, const char* what) {
    std::ostringstream message;
    message << "place id " << id << ' ' << what;
    return std::invalid_argument(message.str());
}

Layout checked_layout(std::size_t dim, Precision precision) {
    if (dim == 0 || dim > 65536) {
        throw std::invalid_argument("dim is " + std::to_string(dim) + ", expected 1 to 65536");
    }
    return {dim, precision};
}

}  // namespace

PlaceIndex::PlaceIndex(std::size_t dim, Precision precision, const Kernels& kernels)
    : kernels_(kernels),
      layout_(checked_layout(dim, precision)),
      rows_(layout_),
      encoder_(std::make_unique<Encoder>(layout_, kernels, Centre::origin(dim))) {}

PlaceIndex::PlaceIndex(OpenedIndex opened, const Kernels& kernels)
    : kernels_(kernels),
      layout_(opened.rows.layout),
      file_(std::move(opened.file)),
      rows_(std::move(opened.rows)),
      encoder_(std::make_unique<Encoder>(layout_, kernels, std::move(opened.centre))),
      graph_(std::move(opened.graph)) {
    for (std::size_t row = 0; row < rows_.count; ++row) last_id_ = std::max(last_id_, rows_.id(row));
}

PlaceIndex::~PlaceIndex() = default;

std::size_t PlaceIndex::size() const {
    const auto reading = lock_to_search();
    return rows_.count - rows_.removed_count;
}

std::size_t PlaceIndex::removed() const {
    const auto reading = lock_to_search();
    return rows_.removed_count;
}

std::int64_t PlaceIndex::last_id() const {
    const auto reading = lock_to_search();
    return last_id_;
}

bool PlaceIndex::has_graph() const {
    const auto reading = lock_to_search();
    return graph_ != nullptr;
}

std::unique_lock<std::mutex> PlaceIndex::lock_to_write() const {
    const std::lock_guard<std::mutex> next(write_turnstile_);
    return std::unique_lock<std::mutex>(write_mutex_);
}

std::shared_lock<std::shared_mutex> PlaceIndex::lock_to_search() const {
    const std::lock_guard<std::mutex> next(turnstile_);
    return std::shared_lock<std::shared_mutex>(state_mutex_);
}

std::unique_lock<std::shared_mutex> PlaceIndex::lock_to_change() const {
    const std::lock_guard<std::mutex> next(turnstile_);
    return std::unique_lock<std::shared_mutex>(state_mutex_);
}

void PlaceIndex::prepare_to_change() {
    if (row_of_id_) return;
    // Rows are copied and linked from here on; what is damaged must not get new checksums.
    if (file_) file_->need_all();
    row_of_id_ = std::make_unique<RowOfId>(rows_);
}

void PlaceIndex::add(const std::int64_t* ids, const float* rows, std::size_t count) {
    require_unit_rows(rows, count, dim(), "descriptor");
    const auto writing = lock_to_write();
    prepare_to_change();
    if (count == 0) return;
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (ids[i] < 0) throw bad_id(ids[i], "is negative, expected 0 or more");
        if (row_of_id_->find(rows_, ids[i])) throw bad_id(ids[i], "is in the index already; remove it first");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to add, expected once");
    }
    if (count > Rows::kLargest - rows_.count) {
        throw std::invalid_argument("the index would hold more than " + std::to_string(Rows::kLargest) +
                                    " rows, expected fewer");
    }
    centre_for(rows, count);
    // All that can fail for want of memory comes before the first change that others see.
    auto growth = rows_.growth_for(count);
    row_of_id_->make_room(rows_, ids, count);
    {
        const auto changing = lock_to_change();
        rows_.grow(std::move(growth));
    }
    double farthest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        farthest = std::max(farthest, rows_.write(rows_.count + i, ids[i], rows + i * dim(), *encoder_));
    }
    row_of_id_->add(static_cast<std::uint32_t>(rows_.count), ids, count);
    {
        const auto changing = lock_to_change();
        rows_.set_farthest(farthest);
    }
    const std::int64_t largest = std::max(last_id_, *std::max_element(ids, ids + count));
    if (graph_) {
        publish_with_graph(count);
    } else {
        const auto changing = lock_to_change();
        rows_.publish(count);
    }
    const auto changing = lock_to_change();
    last_id_ = largest;
}

/// Take the middle of the descriptors anew if the index has grown much since, or many do not fit its spread, and it has
/// moved.
void PlaceIndex::centre_for(const float* rows, std::size_t count) {
    const std::size_t total = rows_.count + count;
    const bool codes_alone = precision() == Precision::int8;  // nothing is left of a row to encode anew
    if (codes_alone && (rows_.count > 0 || count < kFirstCentredCodes)) return;
    std::size_t due = kFirstCentred;
    while (due <= rows_.count) due *= kGrowth;
    for (std::size_t i = 0; i < count; ++i) wide_rows_ += is_wide(encoder_->distance(rows + i * dim())) ? 1 : 0;
    if (total < due &&
        (wide_rows_ < kFirstCentred || static_cast<double>(wide_rows_) < kWideShare * static_cast<double>(total)))
        return;

    wide_rows_ = 0;
    std::vector<float> descriptor(dim());
    const auto for_each = [&](const auto& visit) {
        for (std::size_t row = 0; row < rows_.count; ++row) {
            encoder_->decode_row(rows_.values.at(row), descriptor.data());
            visit(descriptor.data());
        }
        for (std::size_t i = 0; i < count; ++i) visit(rows + i * dim());
    };
    std::vector<double> sum(dim(), 0.0);
    for_each([&](const float* values) {
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    });
    Centre centre = Centre::origin(dim());
    for (std::size_t i = 0; i < sum.size(); ++i) {
        centre.middle[i] = static_cast<float>(sum[i] / static_cast<double>(total));
    }
    std::vector<double> distances;
    distances.reserve(total);
    double squared = 0;
    for_each([&](const float* values) {
        double off = 0;
        for (std::size_t i = 0; i < sum.size(); ++i) {
            off += (static_cast<double>(values[i]) - centre.middle[i]) * (values[i] - centre.middle[i]);
        }
        squared += off;
        distances.push_back(std::sqrt(off));
    });
    // A file may hold anything; no unit vector is farther from the middle of others than 2, but for rounding.
    const auto possible = [](double distance) { return distance <= 2.02; };
    if (!std::all_of(distances.begin(), distances.end(), possible)) return;
    // The usual distance; and more where a part of the rows, a drive after hours at the dock say, is much farther.
    const auto far = distances.end() - 1 - static_cast<std::ptrdiff_t>(total / 100);
    std::nth_element(distances.begin(), far, distances.end());
    const double spread = std::max(std::sqrt(squared / static_cast<double>(total)), *far / 2);
    centre.spread = std::clamp(static_cast<float>(spread), Centre::kLeastSpread, 1.0F);

    double moved = 0;
    for (std::size_t i = 0; i < sum.size(); ++i) {
        moved += std::pow(static_cast<double>(centre.middle[i]) - encoder_->centre().middle[i], 2);
    }
    const double ratio = centre.spread / encoder_->centre().spread;
    if (std::sqrt(moved) < kMoved * centre.spread && ratio > 1 - kMoved && ratio < 1 + kMoved) return;

    auto encoder = std::make_unique<Encoder>(layout_, kernels_, std::move(centre));
    Rows encoded = rows_.count > 0 ? rows_.encoded_by(*encoder) : Rows(layout_);
    {
        const auto changing = lock_to_change();
        rows_ = std::move(encoded);
        encoder_ = std::move(encoder);
    }
    ++codings_;
    if (builder_) builder_->recode();
}

bool PlaceIndex::is_wide(double distance) const noexcept { return distance > kWide * encoder_->centre().spread; }

void PlaceIndex::publish_with_graph(std::size_t count) {
    for (; count > 0; --count) {
        try {
            // Searches go on while a row is inserted, and wait only while its links are put in place.
            if (!builder_) builder_ = std::make_unique<GraphBuilder>(rows_, kernels_, *graph_);
            builder_->insert_next();
            auto growth = graph_->links.growth_for(rows_.count, rows_.count + 1);
            const auto changing = lock_to_change();
            graph_->links.grow(std::move(growth));
            builder_->publish_last(*graph_);
            rows_.publish(1);
        } catch (const std::exception&) {
            // Out of memory in the middle of an insertion: searches do without a graph, and miss nothing.
            const auto changing = lock_to_change();
            graph_.reset();
            builder_.reset();
            rows_.publish(count);
            return;
        }
    }
}

void PlaceIndex::remove(const std::int64_t* ids, std::size_t count) {
    const auto writing = lock_to_write();
    prepare_to_change();
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (!row_of_id_->find(rows_, ids[i])) throw bad_id(ids[i], "is not in the index");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to remove, expected once");
    }
    const auto changing = lock_to_change();
    for (std::size_t i = 0; i < count; ++i) {
        *rows_.removed.at(*row_of_id_->find(rows_, ids[i])) = 1;
        row_of_id_->remove(ids[i]);
        ++rows_.removed_count;
    }
}

bool PlaceIndex::build_graph(std::size_t m, std::size_t ef_construction, const Progress& progress) {
    if (m < 2 || m > 128) throw std::invalid_argument("m is " + std::to_string(m) + ", expected 2 to 128");
    if (ef_construction < m || ef_construction > 4096) {
        throw std::invalid_argument("ef_construction is " + std::to_string(ef_construction) + ", expected " +
                                    std::to_string(m) + " to 4096");
    }
    if (building_ == std::this_thread::get_id()) {
        throw std::logic_error("build_graph was called by its own progress callback, expected one build at a time");
    }
    const std::lock_guard<std::mutex> building(build_mutex_);
    const BuildingThread here(building_);
    std::unique_ptr<GraphBuilder> builder;
    std::size_t coding = 0;
    for (bool told = false;;) {
        std::size_t done = 0;
        std::size_t total = 0;
        {
            // In slices, between which the index can change: rows that are added meanwhile are inserted in their turn.
            const auto writing = lock_to_write();
            if (!builder) {
                if (file_) file_->need_all();
                builder = std::make_unique<GraphBuilder>(rows_, kernels_, m, ef_construction);
            } else if (coding != codings_) {
                builder->recode();
            }
            coding = codings_;
            total = rows_.count;
            if (told && builder->size() == total) {
                auto graph = builder->to_graph();
                const auto changing = lock_to_change();
                graph_.swap(graph);
                builder_.reset();  // made anew by the first add: most maps are built once and then searched
                return true;
            }
            const std::size_t end = std::min(builder->size() + kBuildSlice, total);
            while (builder->size() < end) builder->insert_next();
            done = builder->size();
        }
        // Also of the last row, before the graph is put in place: whoever cancels then has not changed anything.
        told = true;
        if (progress && !progress(done, total)) return false;
    }
}

Cascade PlaceIndex::cascade() const {
    const bool unchecked = file_ && !file_->all_checked();
    return {rows_, graph_.get(), *encoder_, kernels_, unchecked ? file_.get() : nullptr};
}

Method PlaceIndex::choose(const SearchOptions& options) const {
    if (options.method == Method::graph && !graph_) {
        throw std::invalid_argument("the method is 'graph' and there is no graph; call build_graph first");
    }
    if (options.method != Method::choose) return options.method;
    return cheapest(costs_, layout_, rows_.count, graph_ != nullptr, kept_on_walk(rows_, options.k, options.ef));
}

SearchResult PlaceIndex::search(const float* queries, std::size_t count, const SearchOptions& options) const {
    require_unit_rows(queries, count, dim(), "query");
    const auto reading = lock_to_search();
    SearchResult result;
    result.effort.method = choose(options);
    result.k = std::min(options.k, rows_.count - rows_.removed_count);
    if (result.k == 0) return result;
    result.ids.reserve(count * result.k);
    result.similarities.reserve(count * result.k);
    Cascade cascade = this->cascade();
    const Method method = result.effort.method;
    for (std::size_t q = 0; q < count; ++q) {
        const EncodedQuery query = encoder_->encode_query(queries + q * dim(), method == Method::sketch);
        append_answer(cascade.by(method, query, result.k, options.ef), result);
    }
    result.effort = cascade.effort();
    return result;
}

void PlaceIndex::append_answer(const Nearest& nearest, SearchResult& result) const {
    if (nearest.size() != result.k) {
        throw IndexFileError("the index contradicts itself: a search found " + std::to_string(nearest.size()) +
                             " places, expected " + std::to_string(result.k) + "; build it anew");
    }
    for (const auto& [similarity, row] : nearest) {
        result.ids.push_back(rows_.id(row));
        result.similarities.push_back(std::clamp(similarity, -1.0F, 1.0F));  // stored values are rounded
    }
}

void PlaceIndex::set_costs(const Costs& costs) {
    const auto changing = lock_to_change();
    costs_ = costs;
}

void PlaceIndex::save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const {
    const auto writing = lock_to_write();
    if (file_) file_->need_all();  // else what is damaged would get a checksum that says it is not
    write_index_file(path, rows_, encoder_->centre(), graph_.get(), contract, state);
}

std::unique_ptr<PlaceIndex> PlaceIndex::load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                             const Kernels& kernels, Fingerprint* state) {
    OpenedIndex opened = open_index_file(path, dim, contract);
    *state = opened.state;
    return std::unique_ptr<PlaceIndex>(new PlaceIndex(std::move(opened), kernels));
}

void PlaceIndex::verify() const {
    // Not beside a change, which may write to a block that is being checked.
    const auto writing = lock_to_write();
    if (file_) file_->need_all();
}

}  // namespace vpr
